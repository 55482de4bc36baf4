"""Sign-in for Network Connect clients: the same conversation as everywhere, as HTML that a program reads.

`routes`  which URL does what, and what goes back; only requests with the header NCP-Version come here
`forms`   a prompt as a page such a client understands, and what it sent as fields

Source: openconnect 9.01, `--protocol=nc`. It follows redirects, fills in the first form of a page, and is signed
in as soon as it has a cookie DSID, which is the session's; with that it asks the edge for its tunnel
(`gateway.entrance`). Browsers never see these pages.
"""
