"""What an evaluation has to do: a job for each clip and table, with the right strangers and videos."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from pipelines.evaluate.examiner import ClipJob
from pipelines.evaluate.held_out import HeldClip
from pipelines.evaluate.rows import OURS, Row, table_1, table_2, table_3

FEW, QUICK_FEW = 6, 3
"""Clips of tables 2 and 3, whose rows are many."""
STRANGERS = 4
SHOWN = 4
"""Clips whose videos are shown side by side."""


class Plan(BaseModel):
    """Clips, and the rows of each table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: tuple[HeldClip, ...]
    tables: tuple[int, ...] = Field(description="of the paper; 1 is among them where any is")
    quick: bool
    baselines: tuple[Row, ...] = ()
    export: bool = Field(False, description="portraits, sounds and real videos are wanted too")

    def rows(self, table: int) -> list[Row]:
        """Rows of one of the paper's tables."""
        if table == 1:
            return table_1(self.baselines)
        return table_2(self.quick) if table == 2 else table_3(self.quick)

    def jobs(self) -> list[ClipJob]:
        """All jobs; table 1 first."""
        few = spread_over(self.clips, QUICK_FEW if self.quick else FEW)
        shown = self.shown()
        jobs: list[ClipJob] = []
        for table in self.tables:
            for clip in self.clips if table == 1 else few:
                rows = [row for row in self.rows(table) if row.kind != "folder" or clip.name in row.videos]
                videos = {row.name for row in rows if clip in shown or row.name == OURS}
                jobs.append(
                    ClipJob(
                        clip=clip,
                        strangers=self._strangers(clip),
                        rows=tuple(rows),
                        videos=frozenset(videos if table == 1 else ()),
                        export=self.export and table == 1,
                    )
                )
        return jobs

    def shown(self) -> list[HeldClip]:
        """Clips whose videos are shown."""
        return spread_over(self.clips, SHOWN)

    def _strangers(self, clip: HeldClip) -> tuple[HeldClip, ...]:
        """Clips whose sound is the wrong one: the next of its kind, else of all; a few, should one be useless."""
        for group in ([c for c in self.clips if c.kind == clip.kind], list(self.clips)):
            if len(group) > 1:
                at = group.index(clip)
                return tuple((group[at + 1 :] + group[:at])[:STRANGERS])
        return ()


def spread_over(clips: Sequence[HeldClip], count: int) -> list[HeldClip]:
    """`count` clips that stand for all: spread over them, and so over kinds."""
    return (
        [clips[k * len(clips) // count] for k in range(min(count, len(clips)))]
        if len(clips) > count
        else [*clips]
    )
