"""The user portal, on the gateway's listener: sign-in, home and what belongs to it, sign-out, and what clients upload.

`routes`    which URL does what; the rest is called from there
`requests`  what a browser sent, and to which address
`sign_in`   runs conversations, one form after the other
`home`      what somebody who is signed in sees and can do
`session_rows`  the list of sessions on it
`own`       bookmarks of one's own, preferences
`reach`     "May I reach …?"
`pages`     templates of ours, and custom ones; headers that go with them
`assets/`   style sheet and script, served as those of the console are (`forms.assets`)

No page holds a value that was not escaped; nothing works without the anti-forgery token of its session.
"""
