package quic

import (
	"bytes"
	"slices"
)

// maxPieces bounds the number of pieces of a hello that arrive out of order. Chromium 156 cuts its
// hello of 1,884 bytes into 16 pieces and shuffles them (testdata/chromium-1.bin).
const maxPieces = 256

// stream collects the bytes of the CRYPTO frames (RFC 9000 section 19.6), in any order.
type stream struct {
	data   []byte  // the bytes in the order in which they arrived, without repeated bytes
	pieces []piece // ordered by their offset; no two of them overlap
}

// piece is a part of the stream.
type piece struct {
	offset int // the offset of the first byte of the piece in the stream
	start  int // the index of the first byte of the piece in stream.data
	n      int
}

func (p piece) end() int { return p.offset + p.n }

// add adds the bytes at an offset of the stream. If it cannot add the bytes, the first result says
// why: they differ from bytes that arrived earlier for the same part of the stream, or the stream
// has too many pieces (tooMany is true).
func (s *stream) add(offset int, b []byte) (what string, tooMany bool) {
	i, _ := slices.BinarySearchFunc(s.pieces, offset, func(p piece, offset int) int {
		if p.end() <= offset {
			return -1
		}
		return 1
	})
	// The first piece that ends after offset is s.pieces[i].
	for len(b) > 0 {
		if i < len(s.pieces) && s.pieces[i].offset <= offset {
			p := s.pieces[i]
			n := min(p.end()-offset, len(b))
			if !bytes.Equal(s.data[p.start+offset-p.offset:][:n], b[:n]) {
				return "CRYPTO frame: other bytes than an earlier frame at the same offset", false
			}
			offset, b = offset+n, b[n:]
			i++
			continue
		}
		n := len(b)
		if i < len(s.pieces) {
			n = min(n, s.pieces[i].offset-offset)
		}
		if i > 0 && s.pieces[i-1].end() == offset && s.pieces[i-1].start+s.pieces[i-1].n == len(s.data) {
			s.pieces[i-1].n += n
		} else {
			if len(s.pieces) == maxPieces {
				return "CRYPTO frames: too many pieces out of order", true
			}
			s.pieces = slices.Insert(s.pieces, i, piece{offset, len(s.data), n})
			i++
		}
		s.data = append(s.data, b[:n]...)
		offset, b = offset+n, b[n:]
	}
	return "", false
}

// prefix returns the number of bytes from the beginning of the stream up to the first gap.
func (s *stream) prefix() int {
	n := 0
	for _, p := range s.pieces {
		if p.offset != n {
			break
		}
		n += p.n
	}
	return n
}

// missing looks at the first bytes of the stream, as many as the argument "size" says, and returns
// how many of them have not arrived.
func (s *stream) missing(size int) int {
	left := size
	for _, p := range s.pieces {
		if p.offset >= size {
			break
		}
		left -= min(p.end(), size) - p.offset
	}
	return left
}

// The method "first" returns the n bytes at the beginning of the stream. All of them must have
// arrived. If they arrived in order, the result shares the memory of the stream.
func (s *stream) first(n int) []byte {
	if len(s.pieces) > 0 && s.pieces[0].n >= n {
		return s.data[s.pieces[0].start:][:n:n]
	}
	b := make([]byte, 0, n)
	for _, p := range s.pieces {
		if len(b) == n {
			break
		}
		b = append(b, s.data[p.start:][:min(p.n, n-len(b))]...)
	}
	return b
}
