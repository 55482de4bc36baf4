"""What no single setting can know, one module per field. Each judge takes the tree and yields findings.

`names`         used once; references lead somewhere
`network`       listeners, pools, addresses and name servers of clients, routes
`access`        rules that match nothing, and too many of them
`times`         times, sizes and costs that contradict each other
`signing_in`    URLs, realms, pages, expressions
`lock_out`      somebody must be left who can repair the tree
`certificates`  texts in PEM
`traces`        where traces go
`connections`   what clients are configured with
"""
