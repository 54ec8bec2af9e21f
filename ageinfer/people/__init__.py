"""From faces of frames to people: who was there, for how long, how old, and how many of each age.

==============  ==========================================================
`places`        zones and lines in the picture
`visits`        follows each face from its first frame to its last
`people`        one record a person
`bands`         bands of ages, and how many people are of one
`windows`       what is told of a stretch of time, and what of it is hidden
`audience`      counts the people of a source by age
`board`         what a run and its page share
==============  ==========================================================
"""

from ageinfer.people.audience import Audience
from ageinfer.people.bands import BANDS, Band
from ageinfer.people.people import People, Person
from ageinfer.people.places import Crossing, Line, Places, Zone
from ageinfer.people.windows import Window

__all__ = ["BANDS", "Audience", "Band", "Crossing", "Line", "People", "Person", "Places", "Window", "Zone"]
