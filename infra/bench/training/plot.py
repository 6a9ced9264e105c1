#!/usr/bin/env python3
"""Draws what `run.py` measured: its last line on stdin, a drawing (SVG) on stdout.

nDCG@10 of the base and of the tuned model by the weight of BM25, on train claims that neither saw.
"""

import json
import sys

WIDTH, HEIGHT, LEFT, TOP = 640, 300, 56, 34
COLOURS = {"base": "#888", "tuned": "#00635d"}
STYLE = "text { font: 12px sans-serif; fill: #333 } .soft { fill: #666 } line { stroke: #ddd }"


def main() -> None:
    curves = json.load(sys.stdin)["unseen_train_claims_ndcg_at_10"]
    values = [value for curve in curves.values() for value in curve.values()]
    # A step below the lowest, where the names stand.
    low, high = (min(values) // 0.02 - 1) * 0.02, (max(values) // 0.02 + 1) * 0.02

    def place(weight: float, value: float) -> tuple[float, float]:
        return LEFT + weight * (WIDTH - LEFT - 90), TOP + (high - value) / (high - low) * (HEIGHT - TOP - 40)

    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
             "<title>nDCG@10 by the weight of BM25, base and fine-tuned model</title>",
             f"<style>{STYLE}</style>", f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{LEFT}" y="18">nDCG@10 on SciFact\'s train claims that the model did not see</text>']
    for step in range(round((high - low) / 0.02) + 1):
        value = low + step * 0.02
        (left, y), (right, _) = place(0, value), place(1, value)
        drawn.append(f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text class="soft" x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for name, curve in curves.items():
        points = [(float(weight), value) for weight, value in curve.items()]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        best = place(*max(points, key=lambda point: point[1]))
        end = place(*points[0])
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>'
                     f'<circle cx="{best[0]:.1f}" cy="{best[1]:.1f}" r="4" fill="{COLOURS[name]}"/>'
                     f'<text x="{end[0] + 8:.1f}" y="{end[1] + 16:.1f}">{name}</text>')
    for weight in (0, 0.25, 0.5, 0.75, 1):
        x, _ = place(weight, low)
        drawn.append(f'<text class="soft" x="{x:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{weight:g}</text>')
    drawn.append(f'<text class="soft" x="{place(0.5, low)[0]:.1f}" y="{HEIGHT - 5}" text-anchor="middle">'
                 "weight of BM25; the rest is the vectors'</text></svg>")
    print("\n".join(drawn))


if __name__ == "__main__":
    main()
