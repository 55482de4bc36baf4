"""From models to HTML forms and back: what console and portal share.

`environment`  templates, icons, and how times and sizes are written
`assets`       style sheets and scripts, served by names that change with what they hold
`prompts`      a prompt of a sign-in conversation as a form, and the form as its answer
`labels`       what settings are called on a page
`fields`       a section of the configuration tree as a list of fields
`filling`      a field with its value and with what is wrong about it
`reading`      what a browser sent, as the JSON value of that section

Nothing in here knows requests, sessions or rights. All text is escaped by the templates.
"""
