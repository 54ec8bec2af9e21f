"""Sends results to an MQTT broker, for Home Assistant and others.

==============  ==========================================================
`address`       where a broker is, and the topic
`sink`          from frames to messages: faces in view, persons, audience
`messages`      topics, and what is sent to them
`discovery`     lets Home Assistant find the sensors
`broker`        takes messages at once; a thread that connects again
`outbox`        what waits to be sent
`connection`    one connection, from its beginning to its end
`reports`       says what a person should know, once
==============  ==========================================================

The package paho-mqtt (extra ``mqtt``) is loaded by `broker` and `connection` alone.
"""
