"""Finding the hubs of a virtual channel: who announces which ledgers, the cheapest ways through them, another try.

Reading order: `fees`, `statements`, `messages`, `table` (what is heard), `paths` (what is found), `attempts` (what
failed), `router` (all of it for a node). Nothing here signs money or is needed after a restart; all of it may be lost.
"""
