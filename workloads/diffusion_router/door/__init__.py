"""What both doors of a service ask of whoever knocks: a key, a bounded JSON body, and fixed codes for every refusal.

The router is the front door and the engine the back one. They share these modules so that a request is judged by the
same rules whichever door it comes to. Nothing here knows about engines, models or routes.
"""
