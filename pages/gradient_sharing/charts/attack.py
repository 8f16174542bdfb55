"""The reconstruction of an image from an upload, step by step."""

from __future__ import annotations

import plotly.graph_objects as go

from pages.common.figures import COLOURS, Curve, figure


def rebuilding(curves: dict[str, Curve], steps: int) -> go.Figure:
    """Similarity of the reconstruction to the true image over the attacker's steps.

    curves: psnr_db over steps, all attempts one after the other, each of `steps`.
    """
    chart = figure("Attacker's steps", "Similarity to the image (PSNR, dB)", height=280)
    attempts: dict[int, Curve] = {}
    for x, y in curves.get("psnr_db", []):
        attempts.setdefault(int((x - 1) // steps), []).append(((x - 1) % steps + 1, y))
    for number, points in attempts.items():
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="lines+markers",
            name=f"attempt {number + 1}",
            line=dict(
                color=COLOURS["attacker"], width=3, dash=("solid", "dot", "dash")[number % 3]
            ),
            marker=dict(size=5),
            hovertemplate="%{y:.1f} dB",
        )
    chart.update_layout(showlegend=len(attempts) > 1)
    chart.update_xaxes(range=[0, 1.02 * steps])
    return chart
