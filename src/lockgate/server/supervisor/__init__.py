"""Starts the two processes of a server and keeps them running.

`lockgate server run` goes through two stages in one process id:

* `prepare` (may be privileged) opens what needs privileges: the TUN device with its addresses, the
  listening TCP sockets and the UDP sockets for ESP. Then it executes `lockgate-edge confine`, which
  drops every privilege, and that executes the second stage.
* `supervise` (unprivileged from its first line) makes the Unix sockets, starts edge and control
  plane with the inherited descriptors, and starts them again when they die. Because it holds the
  descriptors, a dying edge loses neither the TUN device nor connections that wait to be accepted.

Neither stage parses a byte from the network.
"""
