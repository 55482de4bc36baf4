"""REST on the administrators' listener, below /api/v1.

`app`     the routes put together, and the OpenAPI document
`route`   what every route has: a guard that runs before the body is read, bounded JSON, one shape of errors
others    routes by subject; each names the right it needs, and asks again where the object decides

REST is the definition of every operation: the command line calls it in-process (`web.local`), the console
uses the same services.
"""
