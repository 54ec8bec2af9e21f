"""From faces of frames to people: who was there, for how long, how old, and how many of each age.

==============  ==========================================================
`places`        zones and lines in the picture
`visits`        follows each face from its first frame to its last
`people`        one record a person
`audience`      counts by age band over stretches of time
`board`         what a run and its page share
==============  ==========================================================
"""

from ageinfer.people.audience import BANDS, Audience, Band, Window
from ageinfer.people.people import People, Person
from ageinfer.people.places import Crossing, Line, Places, Zone

__all__ = ["BANDS", "Audience", "Band", "Crossing", "Line", "People", "Person", "Places", "Window", "Zone"]
