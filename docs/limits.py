"""The rows of docs/reference/limits.md: what is limited, where the number lives, what happens beyond it, the test."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """One row.

    Attributes:
        what: is limited.
        where: names of its constants below `ageinfer`; ``NAME(PARAMETER)`` is the default of a parameter.
        shown: writes their values.
        beyond: what happens beyond it.
        changed: the option that changes it; empty: none does.
        test: the file in tests/ageinfer, and the function in it, that hold it.
    """

    what: str
    where: tuple[str, ...]
    shown: Callable[..., str]
    beyond: str
    changed: str
    test: str

    def row(self) -> tuple[str, ...]:
        """The row as it is printed."""
        value = self.shown(*(value_of(f"ageinfer.{name}") for name in self.where))
        return self.what, value, self.beyond, self.changed or "-", f"`{self.test}`"


def value_of(name: str) -> Any:
    """What a dotted name stands for; of ``NAME(PARAMETER)`` the default of the parameter."""
    name, _, parameter = name.rstrip(")").partition("(")
    words = name.split(".")
    for count in range(len(words), 0, -1):
        try:
            value = import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            value = getattr(value, word)
        return inspect.signature(value).parameters[parameter].default if parameter else value
    raise AttributeError(name)


def megabytes(count: int) -> str:
    """A size, of which a megabyte has 1,048,576 bytes."""
    return f"{count >> 20:,} MB" if count >= 1 << 20 else f"{count >> 10} kB"


def seconds(*values: float) -> str:
    """A time, or the shortest and the longest."""
    return " to ".join(f"{value:g}" for value in values) + " s"


def number(*values: float) -> str:
    """A number, or the least and the most."""
    return " to ".join(f"{value:,.0f}" for value in values)


def millions(count: int) -> str:
    """A number of pixels."""
    return f"{count // 10**6:,} million"


REFUSED = "refused by its header before anything is decoded, status 3; in a folder it is left out, status 7"
NO_MODEL = "the model is refused, status 4"

LIMITS: dict[str, tuple[Limit, ...]] = {
    "sources": (
        Limit("pixels of a picture or of a frame", ("sources.formats.MOST_PIXELS",), millions, REFUSED, "",
              "test_limits.py::test_the_largest_picture_is_accepted_and_one_row_more_is_not"),
        Limit("pixels of all frames of an animated WebP or AVIF", ("sources.animation._MOST_PIXELS",), millions,
              "refused by its header, status 3", "",
              "test_limits.py::test_an_animation_of_the_most_pixels_is_read_and_one_of_more_is_not"),
        Limit("pages of a TIFF, its previews among them", ("sources.formats.MOST_PAGES",), number, REFUSED, "",
              "test_limits.py::test_a_tiff_of_the_most_pages_is_read_and_one_of_more_is_not"),
        Limit("size of the file of a picture", ("sources.decoding.LARGEST_FILE",), megabytes,
              "not read, status 3; in a folder 7", "",
              "test_limits.py::test_a_picture_file_of_the_largest_size_is_read_and_one_of_more_is_not"),
        Limit("size of a picture at an address", ("sources.probe._LARGEST_PICTURE",), megabytes,
              "no more is fetched, status 3", "",
              "test_limits.py::test_a_picture_at_an_address_may_be_so_large_and_no_larger"),
        Limit("size of a recording at an address that has to be fetched whole", ("sources.probe._LARGEST_FILM",),
              megabytes, "no more is fetched, what was is removed, status 3", "",
              "test_limits.py::test_a_film_at_an_address_may_be_so_large_and_no_larger"),
        Limit("length of a path on standard input", ("sources.paths._LONGEST_PATH",),
              lambda n: f"{n:,} bytes", "no list of paths, status 3", "",
              "test_limits.py::test_a_path_on_standard_input_may_be_so_long_and_no_longer"),
        Limit("the same between null bytes", ("sources.paths._LONGEST_ODD_NAME",), megabytes,
              "no list of paths, status 3", "",
              "test_limits.py::test_a_path_on_standard_input_may_be_so_long_and_no_longer"),
        Limit("worker processes", ("commands.workers_option._MOST_WORKERS",), number, "status 2", "`--workers`",
              "test_workers_command.py::test_another_number_of_workers_is_refused"),
        Limit("results that wait for those before them, in memory", ("workers.held._MOST_BYTES",), megabytes,
              "they wait in a temporary file", "",
              "test_worker_messages.py::test_what_is_not_due_is_kept_in_memory_and_beyond_that_in_a_file"),
        Limit("tasks (a video, or up to 16 pictures) from the oldest that is not done to the newest",
              ("workers.run._MOST_TASKS",), number, "no more are begun", "",
              "test_workers.py::test_what_waits_for_a_slow_picture_is_bounded"),
        Limit("images that wait for those before them", ("workers.run._MOST_IMAGE_BYTES",), megabytes,
              "workers wait", "", "test_workers.py::test_images_that_wait_for_a_slow_picture_are_bounded"),
        Limit("frames a second that a source may announce", ("types.HIGHEST_FPS",), number, "25 are assumed", "",
              "test_limits.py::test_a_frame_rate_is_believed_up_to_the_highest"),
        Limit("width to height of a pixel, and its inverse", ("sources.decoder._LARGEST_ASPECT",), number,
              "pixels count as square", "", "test_films.py::test_an_aspect_that_makes_no_sense_is_left_alone"),
        Limit("number of a camera (`--camera`)", ("commands.inputs._LAST_CAMERA",), number, "status 2",
              "the path of the device", "test_limits.py::test_the_last_camera_is_accepted_and_the_next_is_not"),
        Limit("time without a frame of a live source", ("sources.open_source(stall_s)",), seconds,
              "it is lost, and opened again", "",
              "test_live_reconnect.py::test_a_read_that_hangs_is_a_stall_and_left_behind"),
        Limit("time until a live source has its first frame", ("sources.live.LiveSource(open_s)",), seconds,
              "status 3", "",
              "test_live_open_close.py::test_a_camera_that_hangs_from_the_beginning_is_refused_in_time"),
        Limit("time in which a lost source is opened again and again", ("sources.open_source(reconnect_for_s)",),
              seconds, "status 3; several sources are tried for ever", "`--reconnect-for`",
              "test_live_reconnect.py::test_it_is_given_up_after_its_time"),
        Limit("pause between two tries of one of several sources that was not there at first",
              ("sources.group._FIRST_PAUSE_S", "sources.group._LONGEST_PAUSE_S"), seconds,
              "it doubles up to the longest", "",
              "test_live_group.py::test_one_that_is_not_there_at_the_start_comes_later"),
        Limit("size of a configuration file", ("commands.config._LARGEST_BYTES",), megabytes, "status 2", "",
              "test_config.py::test_what_is_wrong_is_said_with_the_file_and_the_key"),
        Limit("pause between two tries",
              ("sources.live.LiveSource._FIRST_PAUSE_S", "sources.live.LiveSource._LONGEST_PAUSE_S"), seconds,
              "it doubles up to the longest; so a source that comes and goes makes few lines in the log", "",
              "test_live_reconnect.py::test_tries_become_rarer"),
        Limit("threads that hang in a driver", ("sources.live._HANGING_THREADS",), number,
              "no further try until one returns", "",
              "test_live_reconnect.py::test_captures_that_hang_in_opening_do_not_become_more_and_more"),
    ),
    "models": (
        Limit("size of a model file", ("engine.modelfile._LARGEST_BYTES",), megabytes, f"not read; {NO_MODEL}", "",
              "test_limits.py::test_a_model_file_of_the_largest_size_is_read_and_one_of_more_is_not"),
        Limit("fields of the model, its graph and its nodes: nodes, tensors, names",
              ("engine.graph._MOST_PARTS",), number, NO_MODEL, "",
              "test_limits.py::test_a_graph_may_have_so_many_parts_and_no_more"),
        Limit("length of its metadata, in characters", ("engine.modelfile._LARGEST_METADATA",), number, NO_MODEL, "",
              "test_limits.py::test_metadata_may_be_so_long_and_no_longer"),
        Limit("entries of metadata", ("engine.modelfile._MOST_PROPERTIES",), number, NO_MODEL, "",
              "test_limits.py::test_a_model_may_have_so_many_entries_of_metadata_and_no_more"),
        Limit("length of its name, in characters", ("engine.modelfile._LONGEST_NAME",), number, NO_MODEL, "",
              "test_limits.py::test_the_name_of_a_model_may_be_so_long_and_no_longer"),
        Limit("ages that it may state, in years", ("engine.modelfile._HIGHEST_AGE",), lambda n: f"0 to below {n:,.0f}",
              NO_MODEL, "", "test_limits.py::test_a_model_may_state_ages_below_a_thousand"),
        Limit("years that an answer may lie outside of what it states", ("engine.estimator._SLACK_YEARS",),
              lambda slack: f"{slack['expectation']:g} (`expectation`), {slack['linear']:g} (`linear`)",
              "the run ends, status 4", "",
              "test_hostile_models.py::test_an_age_outside_of_the_stated_range_is_refused"),
        Limit("side of its crop, in pixels", ("crop.spec.LEAST_SIDE", "crop.spec.LARGEST_SIDE"), number, NO_MODEL, "",
              "test_limits.py::test_a_crop_has_a_least_and_a_largest_side"),
        Limit("threads of a network", ("engine.sessions._MOST_THREADS",),
              lambda n: f"{n}, or as many as there are cores", "status 2", "`--threads`",
              "test_limits.py::test_a_network_may_have_so_many_threads_and_no_more"),
    ),
    "work": (
        Limit("longer side of a search at once, in pixels", ("detect.search._LARGEST_AT_ONCE_PX",), number,
              "larger pictures are searched in tiles", "`--detect-size`",
              "test_detect.py::test_up_to_2560_pixels_every_look_is_a_single_one"),
        Limit("candidates of a search, before those that overlap are dropped", ("detect.yunet.YuNet._TOP_K",), number,
              "the best remain", "", "test_limits.py::test_a_search_has_so_many_candidates_and_no_more"),
        Limit("known faces near which is searched at once", ("detect.yunet.YuNet._NEAR_AT_ONCE",), number,
              "the others are searched after them", "",
              "test_limits.py::test_a_search_near_a_crowd_is_done_in_pictures_of_bounded_size"),
        Limit("time until a settled age of a track is estimated again", ("detect.looking._LONGEST_AGE_INTERVAL_S",),
              seconds, "status 2", "`--age-interval`",
              "test_pipeline.py::test_an_interval_beyond_which_a_change_would_not_be_noticed"),
        Limit("faces that wait for a batch", ("pipeline._BATCH_FACES",), number, "they are estimated", "",
              "test_pipeline.py::test_faces_of_several_pictures_share_a_batch_and_every_picture_keeps_its_own"),
        Limit("values of pictures that wait for a batch (3 a pixel)", ("pipeline._BATCH_PIXELS",), millions,
              "they are estimated", "", "test_pipeline.py::test_large_pictures_do_not_wait_for_each_other"),
        Limit("frames of a file that are decoded ahead", ("pipeline._FRAMES_AHEAD",), number, "the decoder waits", "",
              "test_ahead.py::test_items_come_in_order_and_are_made_ahead_but_not_too_far"),
        Limit("size of the frames in such a queue", ("pipeline._BYTES_AHEAD",), megabytes,
              "one frame waits, whatever its size", "", "test_ahead.py::test_heavy_items_wait_one_at_a_time"),
        Limit("frames that wait for the encoder of a video", ("sinks.encoder._WAITING_FRAMES",), number,
              "the run waits", "", "test_limits.py::test_so_many_frames_wait_for_the_encoder_and_no_more"),
        Limit("time between two Ctrl-C that end a run at once", ("commands.interrupts._AT_ONCE_S",),
              lambda s: f"{s:g} s or more", "a second one that is earlier counts as the first", "",
              "test_run_interrupts.py::test_only_the_second_ctrl_c_ends_a_run_at_once_however_late_others_come"),
    ),
    "outputs": (
        Limit("zones and lines of a run", ("people.places.MOST_PLACES",), number, "status 2", "",
              "test_places.py::test_there_may_be_so_many_places_and_no_more"),
        Limit("corners of a zone", ("people.places.MOST_CORNERS",), number, "status 2", "",
              "test_places.py::test_what_is_no_zone_is_refused_with_the_form_of_one"),
        Limit("length of their names, in characters", ("people.places.LONGEST_NAME",), number, "status 2", "",
              "test_places.py::test_what_is_no_zone_is_refused_with_the_form_of_one"),
        Limit("bands of ages (`--bands`)", ("people.bands.MOST_BANDS",), number, "status 2", "",
              "test_audience.py::test_there_may_be_so_many_bands_and_no_more"),
        Limit("ages whose probability is given (`--thresholds`)", ("commands.people_options._MOST_THRESHOLDS",), number,
              "status 2", "", "test_limits.py::test_there_may_be_so_many_thresholds_and_no_more"),
        Limit("stretch of time of an audience (`--every`)", ("commands.people_options._LONGEST_WINDOW_S",),
              lambda s: f"1 s to {s // 86_400:,} days", "status 2", "",
              "test_limits.py::test_a_stretch_of_time_may_be_so_long_and_no_longer"),
        Limit("pictures of faces (`--faces`)", ("sinks.FaceSnapshots(max_faces)",), number,
              "further faces are left out, with one warning", "`max_faces` in Python",
              "test_face_snapshots.py::test_no_more_faces_than_allowed_and_one_warning"),
        Limit("size of these pictures together", ("sinks.FaceSnapshots(max_bytes)",), megabytes,
              "further faces are left out, with one warning", "`max_bytes` in Python",
              "test_limits.py::test_pictures_of_faces_may_be_so_large_together"),
        Limit("part of the name of a source in the name of such a picture", ("sinks.snapshots._LONGEST_STEM",),
              lambda n: f"{n} bytes", "cut off", "",
              "test_limits.py::test_the_name_of_a_source_may_be_so_long_in_the_name_of_a_picture"),
        Limit("side of an annotated video, in pixels", ("sinks.encoder.CODECS",),
              lambda codecs: ", ".join(f"{c.largest_side:,} ({name})" for name, c in codecs.items()),
              "status 5", "`--codec`", "test_video_files.py::test_a_frame_too_large_for_the_codec_is_refused_clearly"),
        Limit("gap between two frames of a recording of a live source", ("sinks.video._LONGEST_GAP_S",), seconds,
              "the gap is left out", "", "test_video_files.py::test_live_a_gap_of_more_than_ten_seconds_is_left_out"),
        Limit("length of a message, in characters", ("console._LONGEST_MESSAGE",), number,
              "its middle is left out; begin and remedy stay", "`--debug`",
              "test_limits.py::test_a_message_may_be_so_long_and_no_longer"),
    ),
    "mqtt": (
        Limit("topic of the address", ("mqtt.address._LONGEST_TOPIC",), lambda n: f"{n} bytes", "status 2", "",
              "test_mqtt_address.py::test_a_topic_may_be_so_long_and_no_longer"),
        Limit("user and password", ("mqtt.address._LONGEST_SECRET",), lambda n: f"{n:,} bytes", "status 2", "",
              "test_mqtt_address.py::test_a_user_and_a_password_may_be_so_long_and_no_longer"),
        Limit("name of a source in topics, in characters", ("mqtt.messages.LONGEST_CAMERA",), number, "cut off", "",
              "test_mqtt_address.py::test_the_name_of_a_source_may_be_so_long_in_topics"),
        Limit("persons and audiences that wait for the broker", ("mqtt.outbox.MOST_WAITING",), number,
              "the oldest are dropped, counted and said", "",
              "test_mqtt_outbox.py::test_so_many_records_wait_and_the_oldest_make_room"),
        Limit("messages that the broker has not acknowledged", ("mqtt.connection.MOST_UNACKNOWLEDGED",),
              lambda n: f"{n}, or fewer where the broker asks for that", "the others wait", "",
              "test_mqtt_broker.py::test_records_that_were_not_acknowledged_are_sent_again"),
        Limit("time until a broker answers", ("mqtt.connection.ANSWER_S",), seconds, "it counts as away", "",
              "test_mqtt_faults.py::test_a_broker_that_never_answers_is_left_and_holds_nobody_up"),
        Limit("pause between two tries", ("mqtt.broker.FIRST_PAUSE_S", "mqtt.broker.LONGEST_PAUSE_S"), seconds,
              "it doubles up to the longest, which also follows a refusal", "",
              "test_mqtt_faults.py::test_tries_become_rarer"),
        Limit("time between two warnings about what was dropped", ("mqtt.reports.QUIET_S",), seconds,
              "the next one has the sum", "",
              "test_mqtt_faults.py::test_what_is_dropped_is_said_once_in_a_while"),
        Limit("time for what waits at the end", ("mqtt.connection.LAST_S",), seconds, "dropped, counted and said", "",
              "test_mqtt_broker.py::test_what_a_slow_broker_has_not_acknowledged_is_dropped_at_the_end_and_counted"),
    ),
    "page": (
        Limit("connections", ("web.connection.MOST_CONNECTIONS",), number,
              "the one that has asked for nothing for the longest time is broken", "",
              "test_web_limits.py::test_beyond_the_limit_whoever_is_silent_for_longest_has_to_go"),
        Limit("viewers of the pictures; as many of the state", ("web.streams.MAX_VIEWERS",), number,
              "the page says that others are watching (503)", "",
              "test_web_load.py::test_places_are_limited_and_become_free_again"),
        Limit("time for a request, with all that belongs to it", ("web.connection.REQUEST_S",), seconds,
              "the connection is broken", "",
              "test_web_limits.py::test_a_connection_that_asks_for_nothing_is_ended_however_slowly_it_sends"),
        Limit("size of the head of a request; its body is not read", ("web.guard.LARGEST_HEAD",), megabytes,
              "refused (431; 400 where it is not complete)", "",
              "test_limits.py::test_the_head_of_a_request_may_be_so_large_and_no_larger"),
        Limit("time in which a viewer takes nothing", ("web.streams.STALL_S",), seconds, "it loses its place", "",
              "test_web_load.py::test_a_viewer_that_takes_nothing_for_long_loses_its_place"),
        Limit("time between two lines of the log of the server, of each level", ("web.connection.QUIET_S",), seconds,
              "the next line says how many were left out", "",
              "test_web_limits.py::test_the_log_has_one_line_of_a_kind_in_a_minute_and_counts_the_others"),
        Limit("longer side of its pictures, in pixels", ("web.WebSink(max_side)",), number, "scaled down",
              "`max_side` in Python", "test_web_feed.py::test_pictures_are_scaled_down_to_the_largest_side"),
        Limit("pictures a second", ("web.WebSink(max_fps)",), number, "the newest is shown", "`max_fps` in Python",
              "test_web_feed.py::test_no_more_pictures_a_second_than_asked_for"),
        Limit("ages that a new viewer gets of the time before", ("web.feed.HISTORY_S",), seconds, "forgotten", "",
              "test_web_feed.py::test_history_is_a_minute_of_small_records"),
        Limit("faces of a frame in them", ("web.feed._FACES_SAMPLED",), number, "left out of the plot of the past", "",
              "test_limits.py::test_the_past_has_so_many_faces_of_a_frame_and_no_more"),
        Limit("time to end the server with its viewers", ("web.serving._END_S",), seconds, "it is left behind", "",
              "test_web_server.py::test_closing_waits_for_no_viewer_and_says_nothing"),
    ),
    "service": (
        Limit("bytes of a request", ("api.Limits(most_bytes)",), megabytes, "refused (413)", "`--most-bytes`",
              "test_api_limits.py::test_a_request_may_have_so_many_bytes_and_no_more"),
        Limit("the largest value of that", ("api.limits.LARGEST_REQUEST",), megabytes, "status 2", "",
              "test_api_limits.py::test_limits_that_make_no_sense_are_refused"),
        Limit("bodies of that size that are held at the same time", ("api.limits._REQUESTS_HELD",), number,
              "refused until there is room (429)", "",
              "test_api_limits.py::test_bodies_of_all_requests_together_have_a_limit"),
        Limit("pictures of a request", ("api.Limits(most_pictures)",), number, "refused (413)", "`--most-pictures`",
              "test_api_limits.py::test_a_request_may_have_so_many_pictures_and_no_more"),
        Limit("pictures that wait, of all requests", ("api.Limits(queue)",), number, "refused for now (429)",
              "`--queue`", "test_api_limits.py::test_so_many_pictures_wait_and_no_more"),
        Limit("time for a request, with its body and its answer", ("api.Limits(time_limit_s)",), seconds,
              "refused (408 where the body is not whole, else 504)", "`--time-limit`",
              "test_api_limits.py::test_an_answer_that_takes_too_long_is_given_up_and_what_has_not_begun_never_does"),
        Limit("pixels of pictures that are decoded side by side", ("api.workers._LARGE_PIXELS",), millions,
              "one larger picture at a time; the largest are the same as elsewhere", "",
              "test_api_limits.py::test_large_pictures_are_decoded_one_at_a_time"),
        Limit("connections", ("api.server.MOST_CONNECTIONS",), number,
              "the one that has asked for nothing for the longest time is broken", "",
              "test_api_limits.py::test_so_many_connections_are_held_and_no_more"),
    ),
    "archive": (
        Limit("pictures of a shard, on average; at most twice as many", ("archive.plan.ITEMS",), number,
              "the next shard begins", "`--per-shard`",
              "test_archive_plan.py::test_every_item_is_in_one_shard_in_its_order_and_shards_have_bounded_sizes"),
        Limit("size of the files of a shard, but for the last of them", ("archive.plan.BYTES",), megabytes,
              "the next shard begins", "", "test_archive_plan.py::test_large_files_end_a_shard"),
        Limit("files that are read ahead of a worker", ("archive.reading._AHEAD",), number, "the others wait", "",
              "test_archive_rows.py::test_so_many_files_are_read_ahead_and_no_more"),
        Limit("pauses between the tries of a request to an object store", ("archive.store._PAUSES_S",),
              lambda pauses: f"{', '.join(f'{s:g}' for s in pauses)} s", "the shard fails; `--resume` does it later",
              "", "test_archive_store.py::test_what_fails_is_tried_again_and_what_is_not_there_is_not"),
        Limit("deaths of workers at a file, after a first one at its shard", ("archive.attempts._DEATHS",), number,
              "it is left out, as a row with that reason", "",
              "test_archive_attempts.py::test_a_picture_that_kills_three_workers_is_left_out_and_the_others_are_done"),
        Limit("deaths of workers at a shard", ("archive.attempts._MOST_ATTEMPTS",), number, "the shard fails", "",
              "test_archive_attempts.py::test_twenty_deaths_at_one_shard_are_told"),
        Limit("shards that fail one after the other", ("commands.archive._MOST_FAILURES",), number,
              "the run ends, status 5", "`--resume`",
              "test_archive_command.py::test_so_many_failures_in_a_row_end_a_run"),
        Limit("time until a cluster takes a connection (`--address`)", ("archive.engine._ANSWER_S",), seconds,
              "status 3", "", "test_archive_command.py::test_a_cluster_that_is_not_there_is_told"),
    ),
}  # fmt: skip
