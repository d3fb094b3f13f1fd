package stream

import "sort"

// ring keeps the newest entries of a sequence, bounded in bytes.
type ring[T any] struct {
	entries []entry[T] // by seq
	bytes   int
	limit   int   // of bytes; the newest entry is kept whatever its size
	total   int64 // bytes that were ever added
	dropped int64 // seq of the last entry that is no longer there
}

type entry[T any] struct {
	seq   int64
	size  int
	end   int64 // of total, once it was added
	value T
}

// overhead is what an entry is counted for besides its content.
const overhead = 128

// add appends an entry and drops the oldest beyond the limit.
func (r *ring[T]) add(seq int64, size int, value T) {
	size += overhead
	r.total += int64(size)
	r.bytes += size
	r.entries = append(r.entries, entry[T]{seq, size, r.total, value})
	gone := 0
	for r.bytes > r.limit && gone < len(r.entries)-1 {
		r.bytes -= r.entries[gone].size
		r.dropped = r.entries[gone].seq
		gone++
	}
	if gone == 0 {
		return
	}
	clear(r.entries[:gone])
	r.entries = r.entries[gone:]
}

// after returns the position of the first entry beyond seq.
func (r *ring[T]) after(seq int64) int {
	return sort.Search(len(r.entries), func(i int) bool { return r.entries[i].seq > seq })
}

// upTo returns how many bytes had been added with the entries up to seq.
func (r *ring[T]) upTo(seq int64) int64 {
	if i := r.after(seq); i < len(r.entries) {
		return r.entries[i].end - int64(r.entries[i].size)
	}
	return r.total
}
