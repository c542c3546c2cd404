#!/usr/bin/env python3
"""Reads an indelible log, by docs/FORMAT.md ("Reading a log") and nothing else.

    read_log.py DIR

Prints the verdict, the bounds, the cells and the entries, one a line. Standard library only. Changes
nothing. Exit code 0 if the log could be read, 1 if it is refused, 2 if there is none.
"""

import os
import re
import struct
import sys
import zlib

BLOCK = 4096
FIRST, LAST, LZ4 = 1, 2, 4
CLEAN, CREATING = 1, 2
ENTRY, SET, CLEAR, ATTACH, TRUNCATE, TRIM, RESET, HOLE, WITNESS = range(1, 10)
LONGEST = 1073733632
LENGTHS = {
    ENTRY: (0, LONGEST), SET: (2, 1057), CLEAR: (2, 33), ATTACH: (22, 53), TRUNCATE: (0, 0),
    TRIM: (0, 0), RESET: (0, 0), HOLE: (8, 8), WITNESS: (0, 0),
}
AHEAD = 1 << 32
NAME = re.compile(r"[a-z0-9._-]{1,32}")


class Refused(Exception):
    """The log is damaged."""


class Newer(Exception):
    """A newer build has to read this log."""


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u16(data, at):
    return struct.unpack_from("<H", data, at)[0]


def check_structure(data, magic):
    """Magic, crc, then version and features: the same places for ever."""
    if data[:8] != magic:
        return False
    if zlib.crc32(data[:12] + bytes(4) + data[16:]) != u32(data, 12):
        return False
    if u32(data, 8) != 1:
        raise Newer(f"version {u32(data, 8)}")
    return True


def parse_cell_name(data, at):
    length = data[at]
    name = data[at + 1 : at + 1 + length].decode("ascii", "replace")
    if not 1 <= length <= 32 or len(name) != length or not NAME.fullmatch(name):
        raise ValueError("name")
    return name, at + 1 + length


class Slot:
    def __init__(self, data):
        self.uuid = data[16:32]
        (self.generation, self.sequence, self.first, self.next, self.tail_number,
         self.tail_generation, self.tail_offset, self.reach, self.segment_bytes,
         ) = struct.unpack_from("<9Q", data, 32)
        self.flags, runs, self.cell_count = data[104], data[105], u16(data, 106)
        self.last_frame = u32(data, 108) * 8
        if runs > 16 or self.next < self.first or self.flags > 3:
            raise ValueError("slot")
        self.runs = [struct.unpack_from("<2Q", data, 128 + 16 * nth) for nth in range(runs)]
        at, self.cells = 128 + 16 * runs, {}
        for _ in range(self.cell_count):
            name_len, kind, value_len = data[at], data[at + 1], u16(data, at + 2)
            name = data[at + 4 : at + 4 + name_len].decode("ascii")
            value = data[at + 4 + name_len : at + 4 + name_len + value_len]
            self.cells[name] = ("side" if kind else "inline", value)
            at += 4 + name_len + value_len

    @staticmethod
    def decode(data):
        """A valid slot, or None."""
        if not check_structure(data, b"INDLMETA"):
            return None
        if u64(data, 120) != 0:
            raise Newer("features")
        try:
            return Slot(data)
        except (ValueError, IndexError, struct.error, UnicodeDecodeError):
            return None


class Frame:
    """A checked header; `payload` is None unless the frame is whole."""

    def __init__(self, data, at):
        self.at = at
        self.sequence, self.index = u64(data, at + 8), u64(data, at + 16)
        self.length, self.lag = u32(data, at + 24), u16(data, at + 28)
        self.kind, self.flags = data[at + 30], data[at + 31]
        self.end = at + 32 + (self.length + 7) // 8 * 8
        self.payload = None

    def durable(self):
        return 0 if self.lag == 65535 else max(self.sequence - self.lag, 0)


class Segment:
    def __init__(self, path, number, base):
        self.path, self.number, self.base = path, number, base
        with open(path, "rb") as file:
            self.data = file.read()
        self.end = BLOCK
        self.header_checked = False

    def check_header(self, slot):
        """Whether the header is valid and is that of this very file."""
        data = self.data[:128]
        if len(self.data) < BLOCK or not check_structure(data, b"INDLSEGM"):
            return False
        if u64(data, 88) != 0:
            raise Newer("features")
        (self.generation, self.first_sequence, self.previous_generation, self.previous_end,
         ) = struct.unpack_from("<4Q", data, 48)
        self.salt = zlib.crc32(struct.pack("<Q", self.generation))
        self.header_checked = (
            data[16:32] == slot.uuid and u64(data, 32) == self.number
            and u64(data, 40) == self.base and u64(data, 80) == slot.segment_bytes
            and (self.previous_end == 0
                 or BLOCK <= self.previous_end <= slot.segment_bytes and self.previous_end % 8 == 0)
        )
        return self.header_checked

    def placed_crc(self, place, end):
        return zlib.crc32(self.data[place + 8 : end], self.salt) ^ place // 8

    def header_at(self, at):
        """The checked header at an offset, or None."""
        data = self.data
        if at + 32 > len(data):
            return None
        kind, flags, length = data[at + 30], data[at + 31], u32(data, at + 24)
        if kind not in LENGTHS or flags & ~(FIRST | LAST | LZ4):
            return None
        least, most = LENGTHS[kind]
        if flags & LZ4:
            if kind != ENTRY:
                return None
            least = 5
        if not least <= length <= most or kind == WITNESS and flags:
            return None
        return Frame(data, at) if self.placed_crc(at, at + 32) == u32(data, at + 4) else None

    def frame_at(self, at, limit):
        """The whole frame at an offset that ends by `limit`, or None."""
        frame = self.header_at(at)
        if frame is None or frame.end > min(limit, len(self.data)):
            return None
        if self.placed_crc(at, frame.end) != u32(self.data, at):
            return None
        frame.payload = self.data[at + 32 : at + 32 + frame.length]
        return frame

    def later(self, start, end, sequence):
        """Later headers from an offset on, and whole witnesses in the header's block."""
        found = []
        for at in range((start + 7) // 8 * 8, min(end, len(self.data)), 8):
            if self.data[at + 30 : at + 31] in (b"", b"\0"):
                continue
            header = self.header_at(at)
            if header and sequence < header.sequence <= sequence + AHEAD:
                found.append(header)
        for at in (512, 1024):
            witness = self.frame_at(at, BLOCK)
            if witness and witness.kind == WITNESS and (
                    sequence < witness.sequence <= sequence + AHEAD):
                witness.end = 0
                found.append(witness)
        return found


def whole_block_after(offset):
    return (offset + BLOCK - 1) // BLOCK * BLOCK + BLOCK


class Log:
    def __init__(self, path):
        self.path = path
        self.files, self.sides = {}, {}
        for name in sorted(os.listdir(path)):
            full = os.path.join(path, name)
            if not os.path.isfile(full):
                continue
            if match := re.fullmatch(r"([0-9a-f]{16})-([0-9a-f]{16})\.seg", name):
                number, base = int(match[1], 16), int(match[2], 16)
                self.files.setdefault(number, []).append((full, number, base))
            elif match := re.fullmatch(r"([0-9a-f]{16})\.side", name):
                self.sides[int(match[1], 16)] = full

    def read_slots(self):
        path = os.path.join(self.path, "metadata")
        if not os.path.isfile(path):
            if self.files:
                raise Refused("there is no metadata file")
            return None
        with open(path, "rb") as file:
            data = file.read()
        if len(data) != 2 * BLOCK:
            raise Refused("the metadata file has another length")
        valid = [slot for slot in map(Slot.decode, (data[:BLOCK], data[BLOCK:])) if slot]
        if not valid:
            raise Refused("no slot is valid")
        return max(valid, key=lambda slot: slot.generation)

    def open_above(self, slot, number):
        """Every file above a number whose header is valid."""
        for found in sorted(self.files):
            for path, _, base in self.files[found] if found > number else []:
                if os.path.getsize(path) == slot.segment_bytes:
                    segment = Segment(path, found, base)
                    if segment.check_header(slot):
                        yield segment

    def named(self, slot):
        """Step 3: the files of the runs."""
        segments = []
        for first, last in slot.runs:
            for number in range(first, last + 1):
                files = self.files.get(number, [])
                if len(files) != 1 or os.path.getsize(files[0][0]) != slot.segment_bytes:
                    raise Refused(f"segment {number} is missing")
                segments.append(Segment(*files[0]))
        lowest, holds_first = None, None
        for at, segment in enumerate(segments):
            if segment.base <= slot.first:
                holds_first = at
            lowest = segment.base if lowest is None else min(lowest, segment.base)
        if lowest is not None and min(lowest, slot.next) > slot.first:
            raise Refused("no segment holds the first entry")
        return segments, holds_first

    def check_names(self, slot, segments, first):
        """Step 3, of those that take entries from others."""
        below = [at for at, segment in enumerate(segments) if segment.base <= first]
        for at, segment in enumerate(segments):
            takes = any(before.base >= segment.base for before in segments[:at])
            trims = bool(below) and below[-1] == at > 0
            if (takes or trims) and segment.number != slot.tail_number:
                if not segment.check_header(slot):
                    raise Refused(f"segment {segment.number} is not what its name says")

    def read(self):
        slot = self.read_slots()
        if slot is None:
            return None
        if slot.flags & CREATING:
            for segment in self.open_above(slot, 0):
                header = segment.header_at(BLOCK)
                if header and header.kind != WITNESS:
                    raise Refused("the metadata file is older than the log")
            self.verdict, self.first, self.next = "creating", slot.first, slot.next
            self.cells, self.entries = {}, []
            return self
        segments, _ = self.named(slot)
        tail = segments[-1] if segments else None
        if tail is None or tail.number != slot.tail_number or not tail.check_header(slot):
            raise Refused("the tail has no valid header")
        if tail.generation != slot.tail_generation:
            raise Refused("the tail is of another generation")
        if slot.last_frame:
            header = tail.header_at(slot.last_frame)
            if (not header or header.kind == WITNESS or header.end != slot.tail_offset
                    or header.sequence > slot.sequence):
                raise Refused("the tail lacks its last frame")
        links, frames, sequence = self.walk(slot, tail)
        self.apply(slot, frames)
        self.check_names(slot, segments, self.first)
        self.check_sides()
        self.entries = self.find_entries(slot, segments + links[1:], links, tail)
        return self

    def walk(self, slot, tail):
        """Steps 5 to 7. Returns the segments, and the frames of whole batches with theirs."""
        links, frames, pending = [tail], [], []
        sequence, is_open, end_of_whole = slot.sequence, False, [(tail, slot.tail_offset)]
        clean = bool(slot.flags & CLEAN)
        if clean:
            header = tail.header_at(slot.tail_offset)
            if header and header.kind != WITNESS and header.sequence > slot.sequence:
                raise Refused("the metadata file is older than the log")
        while True:
            segment = links[-1]
            is_first = segment is tail
            at = slot.tail_offset if is_first else BLOCK
            reach = (slot.tail_offset if clean else slot.reach) if is_first else slot.segment_bytes
            segment.end = at
            while frame := segment.frame_at(at, reach):
                if (frame.kind == WITNESS or frame.sequence != sequence + 1
                        or bool(frame.flags & FIRST) == is_open):
                    break
                pending.append((segment, frame))
                at = segment.end = frame.end
                is_open = not frame.flags & LAST
                if not is_open:
                    sequence, end_of_whole = sequence + 1, [(link, link.end) for link in links]
                    frames, pending = frames + pending, []
            behind = segment.later(at, whole_block_after(reach), sequence)
            if any(header.end > reach for header in behind):
                raise Refused("the metadata file is older than the log")
            following = self.files.get(segment.number + 1, [])
            if not behind and not clean and len(following) == 1:
                path, number, base = following[0]
                candidate = Segment(path, number, base)
                if (len(candidate.data) == slot.segment_bytes and candidate.check_header(slot)
                        and candidate.previous_generation == segment.generation
                        and candidate.previous_end == at
                        and candidate.first_sequence == sequence + 1):
                    links.append(candidate)
                    continue
            break
        for above in self.open_above(slot, links[-1].number):
            found = above.later(BLOCK, slot.segment_bytes, sequence)
            durable = max((header.durable() for header in found), default=0)
            if found and (durable >= above.first_sequence or clean):
                raise Refused("the metadata file is older than the log")
            behind += found
        if any(header.durable() > sequence for header in behind):
            raise Refused(f"batch {sequence + 1} was acknowledged and is not whole")
        if clean and behind:
            raise Refused("there are batches behind a close")
        torn = bool(behind) or is_open
        self.verdict = "clean" if clean else "torn" if torn else "recovered"
        for link, end in end_of_whole:
            link.end = end
        return [link for link, _ in end_of_whole], frames, sequence

    def apply(self, slot, frames):
        """Step 8."""
        self.first, self.next, self.cells = slot.first, slot.next, dict(slot.cells)
        for _, frame in frames:
            index, payload = frame.index, frame.payload
            if frame.kind in (ENTRY, HOLE):
                if index != self.next:
                    raise Refused(f"entry {index} where {self.next} belongs")
                self.next = u64(payload, 0) if frame.kind == HOLE else index + 1
            elif frame.kind == TRUNCATE:
                self.next = min(self.next, index)
            elif frame.kind == TRIM:
                self.first = max(self.first, index)
            elif frame.kind == RESET:
                self.first = self.next = index
            else:
                name, at = parse_cell_name(payload, 0)
                if frame.kind == CLEAR:
                    self.cells.pop(name, None)
                else:
                    self.cells[name] = ("side" if frame.kind == ATTACH else "inline", payload[at:])

    def check_sides(self):
        for name, (kind, value) in self.cells.items():
            if kind == "side":
                path = self.sides.get(u64(value, 0))
                if path is None or os.path.getsize(path) != u64(value, 8):
                    raise Refused(f"the side file of {name} is missing")

    def side_is_sound(self, value):
        with open(self.sides[u64(value, 0)], "rb") as file:
            return zlib.crc32(file.read()) == u32(value, 16)

    def find_entries(self, slot, segments, links, tail):
        """Step 9: an (index, kind, bytes) for each live entry."""
        lines, end = [], self.next
        for segment in reversed(segments):
            live = range(max(segment.base, self.first), end)
            end = min(end, segment.base)
            if live:
                lines.append(self.entries_of(slot, segment, live, links, tail))
        return [line for part in reversed(lines) for line in part]

    def entries_of(self, slot, segment, live, links, tail):
        if not segment.header_checked and not segment.check_header(slot):
            return [(index, "damaged", b"") for index in live]
        places = None
        if segment not in links:
            places = self.table(slot, segment, live)
        if places is None:
            places = self.walked(slot, segment, live, links, tail)
        out = []
        for index in live:
            frame = None
            if index in places:
                frame = segment.frame_at(places[index], slot.segment_bytes)
            if frame and frame.kind == ENTRY and frame.index == index:
                payload = frame.payload
                if frame.flags & LZ4:
                    payload = unpack(payload)
                out.append((index, "damaged" if payload is None else "entry", payload or b""))
            elif frame and frame.kind == HOLE and frame.index <= index < u64(frame.payload, 0):
                out.append((index, "hole", b""))
            else:
                out.append((index, "damaged", b""))
        return out

    def table(self, slot, segment, live):
        """The places that a sound footer states, or None."""
        data, start = segment.data, slot.segment_bytes - 64
        footer = data[start:]
        if footer[:8] != b"INDLFOOT" or zlib.crc32(footer[12:], segment.salt) != u32(footer, 8):
            return None
        generation, base, count, data_end = struct.unpack_from("<4Q", footer, 16)
        from_ = start - 4 * count
        if (generation != segment.generation or base != segment.base or from_ < data_end
                or base + count < live.stop or zlib.crc32(data[from_:start]) != u32(footer, 12)):
            return None
        return {base + nth: u32(data, from_ + 4 * nth) * 8 for nth in range(count)}

    def walked(self, slot, segment, live, links, tail):
        """The places that the frames give. What no frame gives is damaged."""
        end = self.stated_end(slot, segment, links)
        at, newest, places, next_ = BLOCK, 0, {}, segment.base
        doubt, may_have_ended, settled = None, False, segment is not tail
        limit = slot.segment_bytes if end is None else end
        while at < limit:
            if not settled and at >= slot.tail_offset:
                settled = True
            frame = segment.header_at(at)
            if frame is None or frame.kind == WITNESS or frame.end > limit:
                break
            if frame.sequence < newest:
                break
            newest, index, cut = frame.sequence, frame.index, next_
            if frame.kind in (ENTRY, HOLE, TRUNCATE):
                cut = max(index, segment.base)
            elif frame.kind == RESET:
                cut = segment.base
            may_have_ended |= end is None and next_ >= live.stop
            if may_have_ended and cut < next_:
                doubt = cut if doubt is None else min(doubt, cut)
            if frame.kind in (ENTRY, HOLE):
                to = index + 1
                if frame.kind == HOLE:
                    whole = segment.frame_at(at, limit)
                    if whole is None:
                        break
                    to = u64(whole.payload, 0)
                # No segment stands for more entries than its table has room for.
                if index > next_ or index < segment.base or to - index > slot.segment_bytes:
                    break
                for each in range(index, to):
                    places[each] = at
                next_ = to
            elif frame.kind in (TRUNCATE, RESET):
                next_ = min(next_, index)
            at = frame.end
        # In front of the checkpoint's place every frame must be sound and lead there.
        if segment is tail and at != limit:
            replayed = {key: value for key, value in places.items() if value >= slot.tail_offset}
            places = {**self.places_behind(slot, segment, limit), **replayed}
            return places
        certain = next_ if doubt is None else min(next_, doubt)
        # What is lost may have been a truncation, and entries after it.
        if at < limit and (end is not None or next_ < live.stop):
            certain = min(certain, live.stop - (limit - at) // 32) if limit - at >= 32 else certain
        return {index: place for index, place in places.items() if index < certain}

    def places_behind(self, slot, segment, limit):
        """Of the tail, the places behind the checkpoint's."""
        at, places = slot.tail_offset, {}
        while at < limit:
            frame = segment.frame_at(at, limit)
            if frame.kind in (ENTRY, HOLE):
                to = u64(frame.payload, 0) if frame.kind == HOLE else frame.index + 1
                places.update((each, at) for each in range(frame.index, to))
            at = frame.end
        return places

    def stated_end(self, slot, segment, links):
        """Where the frames end, or None if nothing says so."""
        if segment in links:
            return segment.end
        for path, number, base in self.files.get(segment.number + 1, []):
            after = Segment(path, number, base)
            if (after.check_header(slot) and after.previous_generation == segment.generation
                    and after.previous_end):
                return after.previous_end
        return None


def unpack(payload):
    """An LZ4 block behind its length; None if it is not sound."""
    size, at, out = u32(payload, 0), 4, bytearray()
    try:
        while at < len(payload):
            token, at = payload[at], at + 1
            length = token >> 4
            if length == 15:
                while True:
                    more, at = payload[at], at + 1
                    length += more
                    if more != 255:
                        break
            if at + length > len(payload):
                return None
            out += payload[at : at + length]
            at += length
            if at == len(payload):
                break
            offset, at = u16(payload, at), at + 2
            if not 0 < offset <= len(out):
                return None
            length = token & 15
            if length == 15:
                while True:
                    more, at = payload[at], at + 1
                    length += more
                    if more != 255:
                        break
            for _ in range(length + 4):
                out.append(out[-offset])
            if len(out) > size:
                return None
    except (IndexError, struct.error):
        return None
    return bytes(out) if len(out) == size else None


def main():
    try:
        log = Log(sys.argv[1]).read()
    except Refused as reason:
        print(f"refused {reason}")
        return 1
    except Newer as reason:
        print(f"newer {reason}")
        return 1
    if log is None:
        print("none")
        return 2
    print(f"verdict {log.verdict}")
    print(f"bounds {log.first} {log.next}")
    for name, (kind, value) in sorted(log.cells.items()):
        if kind == "side":
            sound = "sound" if log.side_is_sound(value) else "damaged"
            print(f"side {name} {u64(value, 0):016x} {u64(value, 8)} {sound}")
        else:
            print(f"cell {name} {value.hex()}")
    for index, kind, payload in log.entries:
        print(f"{kind} {index} {payload.hex()}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
