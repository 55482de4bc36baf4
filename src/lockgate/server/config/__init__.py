"""The one typed configuration tree.

`tree`     pydantic models: every setting with its meaning, unit, default and what is allowed
`values`   the small types settings are made of (endpoint, network, port range …), parsed once
`checks`   what no single setting can know: duplicates, overlaps, sizes
`lines`    where in the file a key stands
`load`     file → tree, or every error with file, line, key and what is allowed
`render`   tree → commented file
`access`   the tree's access rules in the terms of `policy.access`
"""
