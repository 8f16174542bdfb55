"""Widgets, panels, figures and sentences that several topics use."""
