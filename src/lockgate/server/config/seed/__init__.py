"""The file `config.toml` that a gateway is set up with.

`tree`     pydantic models of the file
`checks`   what no single setting can know: duplicates, overlaps, sizes
`lines`    where in the file a key stands
`load`     file → models, or every error with file, line, key and what is allowed
`render`   models → commented file
`access`   the file's access rules in the terms of `policy.access`
`convert`  models → revision 1 of the configuration tree
"""
