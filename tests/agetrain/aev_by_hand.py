"""Counts the figures of age verification from the file of rows alone, with the standard library, in another way.

    python tests/agetrain/aev_by_hand.py rows.csv

Prints JSON: for each model, data set and part what `agetrain.evaluation.aev` must have found.
"""

import csv
import json
import math
import sys
from collections import defaultdict
from pathlib import Path


def share(hits, n):
    """Wilson's interval, written as the two solutions of its equation."""
    if n < 20:
        return None
    z, p = 1.959963984540054, hits / n
    a, b, c = 1 + z * z / n, -2 * p - z * z / n, p * p
    root = math.sqrt(b * b - 4 * a * c)
    low, high = (-b - root) / (2 * a), (-b + root) / (2 * a)
    return [round(100 * value, 3) for value in (p, max(0, low), min(1, high))]


def counted(rows):
    people = [
        (math.floor(float(r["age_years"])), float(r["answer_years"]) if r["found"] == "True" else None, r)
        for r in rows
        if r["age_years"]
    ]
    answered = [(age, answer, row) for age, answer, row in people if answer is not None]
    minors = [answer for age, answer, _ in answered if 13 <= age <= 17]
    adults = [answer for age, answer, _ in answered if 18 <= age <= 30]
    found = {"n": len(people), "no_answer": share(len(people) - len(answered), len(people)), "cutoffs": {}, "at": {}}
    for cutoff in (18, 21, 25, 28, 30):
        at = {
            "minors": share(sum(answer >= cutoff for answer in minors), len(minors)),
            "adults": share(sum(answer < cutoff for answer in adults), len(adults)),
        }
        for age in range(13, 31):
            own = [answer for other, answer, _ in answered if other == age]
            wrong = sum((answer >= cutoff) == (age < 18) for answer in own)
            at[str(age)] = share(wrong, len(own))
        for sex in ("female", "male"):
            own = [answer for age, answer, row in answered if age < 18 and row.get("sex") == sex]
            at[sex] = share(sum(answer >= cutoff for answer in own), len(own))
        found["cutoffs"][str(cutoff)] = at
    for percent in (1, 5, 10):
        # Of all cut-offs between two answers, the lowest that lets at most so many minors pass.
        if len(minors) >= 20:
            fits = [c for c in sorted({0.0, *(round(m + 0.0001, 4) for m in minors)})
                    if 100 * sum(m >= c for m in minors) <= percent * len(minors)]  # fmt: skip
            found["at"][str(percent)] = [fits[0], share(sum(a < fits[0] for a in adults), len(adults))]
    return found


def main(path):
    groups = defaultdict(list)
    with Path(path).open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            groups[f"{row['model']} {row['dataset']} {row['part']}"].append(row)
    return {name: counted(rows) for name, rows in groups.items()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1]), indent=1))
