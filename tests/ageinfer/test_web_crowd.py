"""Many people on the web page: numbers that do not cover each other, and rows that stay where they are."""

import itertools

import pytest
from web_viewers import face, wait_for, writing

pytest_plugins = ["web_viewers", "web_browser"]

# Each number in the plot and the box of its digits: left, top, right, bottom.
NUMBERS = """() => [...document.querySelectorAll("#plot text.end")].map(one => {
    const [box, size] = [one.getBBox(), parseFloat(getComputedStyle(one).fontSize)];
    const base = Number(one.getAttribute("y"));
    return [Number(one.textContent), [box.x, base - 0.75 * size, box.x + box.width, base]];
})"""
ROWS = """() => [...document.querySelectorAll("#faces tbody tr")].map(row =>
    [Number(row.cells[0].textContent), row.classList.contains("left")])"""


def crowd(tracks, youngest=25.0) -> list:
    """People of few ages, so that their lines lie close together."""
    return [face(track, 30.0, youngest + track % 4) for track in tracks]


def rows(page) -> dict[int, bool]:
    """The tracks of the rows in their order, and whether they have left."""
    return dict(page.evaluate(ROWS))


def wait_for_rows(page, tracks):
    wait_for(lambda: page.wait_for_timeout(50) or list(rows(page)) == list(tracks), seconds=15)


def wait_for_lit(page, track):
    page.wait_for_selector("#plot path.age.lit", state="attached")
    page.wait_for_function("track => plot.querySelector('text.lit')?.textContent === String(track)", arg=track)


@pytest.mark.parametrize(("size", "most", "one"), [((1280, 900), 15, 85), ((375, 800), 75, 5)])
def test_the_numbers_of_thirty_people_lie_apart_and_inside_the_plot(serve, make_frame, page, size, most, one):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    sink = serve()
    with writing(sink, make_frame, faces=[*crowd(range(1, 30), most), face(30, one, one)]):
        page.goto(sink.url)
        wait_for_rows(page, range(1, 31))
        numbers = dict(page.evaluate(NUMBERS))
    assert page.inner_text("#count") == "30 faces in the picture"
    assert page.locator("#plot .age").count() == 30
    width, height = page.evaluate("() => [document.getElementById('plot').clientWidth, plot.clientHeight]")
    for left, top, right, bottom in numbers.values():
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    for a, b in itertools.combinations(numbers.values(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "not those who are there the longest"
    assert len(numbers) > 10
    assert page.locator("#plot .more").text_content() == f"+{30 - len(numbers)} more"
    # A few rows are seen, the others by scrolling their own box.
    assert page.evaluate("() => rows.scrollHeight > 2 * rows.clientHeight")
    assert page.evaluate("() => rows.clientHeight < innerHeight")
    page.evaluate("() => { rows.scrollTop = 1e6; }")
    head, box = (page.locator(place).bounding_box() for place in ("#faces th >> nth=0", "#rows"))
    assert head["y"] == pytest.approx(box["y"], abs=1)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.complaints == []


def test_a_number_is_at_the_height_of_its_line_where_there_is_room(serve, make_frame, page):
    sink = serve()
    ages = {1: 20.0, 2: 70.0, 3: 45.0}
    with writing(sink, make_frame, faces=[face(track, years, years) for track, years in ages.items()]):
        page.goto(sink.url)
        wait_for_rows(page, ages)
        wait_for(lambda: page.wait_for_timeout(50) or len(page.evaluate(NUMBERS)) == 3)
        ends = page.eval_on_selector_all(
            "#plot .age", "all => all.map(one => { const box = one.getBBox(); return box.y + box.height / 2; })"
        )
        numbers = dict(page.evaluate(NUMBERS))
    for track, end in zip(ages, ends, strict=True):
        _, top, _, bottom = numbers[track]
        assert (top + bottom) / 2 == pytest.approx(end, abs=2)
    assert page.locator("#plot .more").count() == 0


def test_people_keep_their_rows_while_others_come_and_go(serve, make_frame, page):
    sink = serve()
    people = crowd(range(1, 31))
    with writing(sink, make_frame, faces=people):
        page.goto(sink.url)
        wait_for_rows(page, range(1, 31))
        # Long enough in view to be shown for some time after they have left.
        wait_for(
            lambda: page.wait_for_timeout(50) or int(page.inner_text("#faces tr:last-child td:last-child")[-2:]) > 3
        )
        page.evaluate("() => { for (const row of faces.tBodies[0].rows) row.track = row.cells[0].textContent; }")
        page.evaluate("() => { for (const line of plot.querySelectorAll('.age')) line.known = true; }")
        people[:] = [*crowd([31, 32]), *reversed([one for one in people if one.track not in (5, 10)])]
        wait_for(lambda: page.wait_for_timeout(50) or sum(rows(page).values()) == 2)
        shown = rows(page)
        assert list(shown) == list(range(1, 33))
        assert [track for track, left in shown.items() if left] == [5, 10]
        assert "left" in page.inner_text("#faces tbody tr >> nth=4")
        assert not {5, 10} & set(dict(page.evaluate(NUMBERS))), "those who have left have numbers in the plot"
        assert page.locator("#plot .age.left").count() == 2
        there = [track for track in range(1, 33) if track not in (5, 10)]
        wait_for_rows(page, there)
        assert page.locator("#plot .age").count() == 30
        # The elements of those who stayed are the same ones.
        tracks = page.evaluate("() => [...faces.tBodies[0].rows].map(row => row.track ?? null)")
        assert tracks == [str(track) for track in there[:-2]] + [None, None]
        assert page.evaluate("() => [...plot.querySelectorAll('.age')].filter(line => line.known).length") == 28
        assert page.inner_text("#count") == "30 faces in the picture"
    assert page.complaints == []


def test_a_page_that_is_opened_late_says_how_long_each_is_in_view(serve, make_frame, page):
    sink = serve()
    for index in range(76 * 25):
        sink.write(make_frame(crowd([1, 2] if index >= 70 * 25 else [1])))
    page.goto(sink.url)
    wait_for_rows(page, [1, 2])
    assert page.locator("#faces tbody td:last-child").all_inner_texts() == ["01:15", "00:05"]


def test_the_line_of_a_row_is_brought_out_with_its_number(serve, make_frame, page):
    sink = serve()
    with writing(sink, make_frame, faces=crowd(range(1, 31))):
        page.goto(sink.url)
        wait_for_rows(page, range(1, 31))
        assert 30 not in dict(page.evaluate(NUMBERS))
        page.locator("#faces tbody tr >> nth=29").hover()
        wait_for_lit(page, 30)
        page.mouse.move(0, 0)
        page.locator("#faces tbody tr >> nth=27").focus()
        page.keyboard.press("Tab")
        wait_for_lit(page, 29)
        assert page.locator("#plot .age").count() == 30
        page.evaluate("document.activeElement.blur()")
        page.wait_for_function("() => !plot.querySelector('.lit')")


def test_another_source_begins_with_its_own_people(serve, make_frame, page):
    sink = serve()
    for _ in range(50):
        sink.write(make_frame(crowd([1, 2, 3])))
    page.goto(sink.url)
    wait_for_rows(page, [1, 2, 3])
    sink.write(make_frame(crowd([1]), source="other.mp4"))
    wait_for_rows(page, [1])
    assert page.inner_text("#faces tbody td:last-child") == "00:00"
