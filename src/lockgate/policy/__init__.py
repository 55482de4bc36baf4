"""Pure decisions over the model. Every decision carries its reasons; time is an argument.

`sign_in`       which sign-in policy answers a URL, and the realm in a typed user name
`realm`         who may try to sign in at a realm
`role_mapping`  which roles somebody gets: rules in order, conditions, restrictions, choices
`effective`     what a set of roles amounts to; `merge` has the rules for single options
`access`        configured access rules → the small form the edge enforces, and why a packet may pass
`why`           the whole chain from realm to verdict, told
`what_if`       recorded decisions under another policy; `reach` finds changed destinations, `changes` is the report
`expressions`   the language of custom expressions

`subject`, `conditions` and `restrictions` are shared by these. The policy itself is `model.policy`; the
server compiles it from its configuration tree.
"""
