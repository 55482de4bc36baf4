"""The administrators' console, on the administrators' listener below /admin/.

`routes`     which URL does what, and which right it asks for; the rest is called from there
`ask`        one request of an administrator: session, rights, form, the page that answers
`menu`       what stands in the menu: settings pages of the registry and pages beyond settings
`sign_in`    the administrators' sign-in, one form after the other
`working`    the draft that an administrator's changes go to
`settings`   pages of settings: forms, the form's buttons
`spots`      the place of the tree that an address names; `lists`, `columns`: its objects as a table
`changes`    reviewing, committing, discarding a draft; conflicts
`revisions`, `transfer`, `push`, `sessions`, `overview`, `logs`, `uploads`, `tracing`, `what_if`, `users`,
`tokens`, `certificate`, `search`, `about`: one page, or a few, each

Nothing is decided here that REST does not decide: the same services, the same rights, the same records in the
audit. Every page works without script.
"""
