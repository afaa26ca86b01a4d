"""Faces followed through a video by looks at some of its frames.

A full search finds every face; between two of them our own face net only looks again at the places where faces
were, which costs a fifth. Other finders (mediapipe, Haar) search at every look. Who was seen where becomes tracks:
runs of looks that overlap from one to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ifmdm_core.media.face import Box, Face, find_faces
from ifmdm_core.media.face_finders import uses_own_net

SEARCH_EVERY = 1.0  # seconds between two full searches, at most
LOST = 1.0  # seconds without the face end its track
SAME = 0.3  # least overlap of a face's box from one look to the next
SURE = 0.9  # least score of a face that was only looked at again
FOLLOWED = 3  # faces that are looked at again: the largest ones

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """One face as seen in frame `frame`: its box (x, y, w, h) and mesh [K, 2] in pixels; K is 0 or 478."""

    frame: int
    face: Face


class FaceFollower:
    """Looks at frames in ascending order and collects tracks."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.tracks: list[list[Look]] = []
        self._open: list[list[Look]] = []
        self._searched: int | None = None

    def look(self, frame: int, image: Image, fresh: bool = False) -> None:
        """Look for faces in frame number `frame`, RGB [H, W, 3]; `fresh` where it may begin a new scene."""
        due = self._searched is None or frame - self._searched >= SEARCH_EVERY * self.fps
        faces = None if fresh or due else self._again(image)
        if faces is None:
            faces = find_faces(image)
            self._searched = frame
        self._add(frame, faces)

    def _again(self, image: Image) -> list[Face] | None:
        """The faces where they were last, or None where a full search must tell."""
        if not self._open or not uses_own_net():
            return None
        from ifmdm_core.media.face_net import bundled, overlap

        net = bundled()
        assert net is not None
        faces: list[Face] = []
        for track in sorted(self._open, key=lambda track: -_area(track[-1].face.box))[:FOLLOWED]:
            last = track[-1].face
            face = net.refine(image, last.box)
            if face.score < SURE or overlap(face.box, last.box) < SAME:
                return None
            if not any(overlap(face.box, other.box) > SAME for other in faces):
                faces.append(face)
        return faces

    def _add(self, frame: int, faces: Sequence[Face]) -> None:
        from ifmdm_core.media.face_net import overlap

        self._open = [t for t in self._open if frame - t[-1].frame <= LOST * self.fps]
        free = list(faces)
        for track in sorted(self._open, key=len, reverse=True):  # who has been here longest chooses first
            best = max(free, key=lambda face: overlap(face.box, track[-1].face.box), default=None)
            if best is not None and overlap(best.box, track[-1].face.box) >= SAME:
                track.append(Look(frame, best))
                free = [face for face in free if face is not best]
        for face in free:
            track = [Look(frame, face)]
            self._open.append(track)
            self.tracks.append(track)


@dataclass(frozen=True)
class Run:
    """Frames [first, last) of one shot in which one face is followed, and the looks at it, ascending."""

    first: int
    last: int
    looks: tuple[Look, ...]

    @property
    def num_frames(self) -> int:
        return self.last - self.first

    def part(self, first: int, last: int) -> Run:
        """The run's frames [first, last), with one look beyond either end where there is one."""
        frames = [look.frame for look in self.looks]
        low = max(0, int(np.searchsorted(frames, first, "right")) - 1)
        high = int(np.searchsorted(frames, last - 1, "left")) + 1
        return Run(first, last, self.looks[low:high])

    def boxes(self) -> Floats:
        """The face box (x, y, w, h) of every frame, [num_frames, 4]: straight lines between looks."""
        return self._between(np.array([look.face.box for look in self.looks]))

    def landmarks(self) -> Floats | None:
        """The mesh of every frame, [num_frames, 478, 2], between looks likewise; None where a look has none."""
        meshes = [look.face.landmarks for look in self.looks]
        if any(mesh.shape != (478, 2) for mesh in meshes):
            return None
        return self._between(np.stack(meshes).reshape(len(meshes), -1).astype(np.float64)).reshape(-1, 478, 2)

    def _between(self, values: Floats) -> Floats:  # [looks, d] -> [num_frames, d]
        places = [look.frame for look in self.looks]
        at = np.clip(np.arange(self.first, self.last), places[0], places[-1])
        after = np.clip(np.searchsorted(places, at), 1, max(1, len(places) - 1))
        before = after - 1
        after = np.minimum(after, len(places) - 1)
        gap = np.maximum(1, np.take(places, after) - np.take(places, before))
        weight = ((at - np.take(places, before)) / gap)[:, None]
        return values[before] * (1 - weight) + values[after] * weight


def main_runs(
    tracks: Sequence[Sequence[Look]], shots: Sequence[int], num_frames: int, step: int
) -> list[Run]:
    """Who is worth following when: runs in order of time that do not overlap.

    Within a shot the face with the largest sum of its sizes over its looks comes first; another one counts where
    it is there at none of the same time. A run reaches from its first look to its last one, and to the shot's end
    where that is less than `step` frames (the distance of looks) away.
    """
    runs = []
    for start, end in zip(shots, [*shots[1:], num_frames], strict=True):
        inside = [[look for look in track if start <= look.frame < end] for track in tracks]
        taken: list[Run] = []
        for looks in sorted((t for t in inside if t), key=_weight, reverse=True):
            last = looks[-1].frame + 1
            run = Run(looks[0].frame, end if end - last < step else last, tuple(looks))
            if not any(run.first < other.last and other.first < run.last for other in taken):
                taken.append(run)
        runs += sorted(taken, key=lambda run: run.first)
    return runs


def equal_parts(run: Run, longest: int) -> list[Run]:
    """The run in as few parts as `longest` frames allow, all of about the same length."""
    count = -(-run.num_frames // longest)
    ends = [run.first + run.num_frames * k // count for k in range(count + 1)]
    return [run.part(first, last) for first, last in itertools.pairwise(ends)]


def _weight(looks: Sequence[Look]) -> float:
    return sum(max(look.face.box[2:]) for look in looks)


def _area(box: Box) -> float:
    return box[2] * box[3]
