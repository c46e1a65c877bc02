package supervisor

import "bytes"

// maxLine is the largest length of a line in bytes. lines cuts a longer line into several lines.
const maxLine = 64 << 10

// lines is an io.Writer that calls a function for each line, without the line end. It leaves out
// empty lines.
type lines struct {
	call    func(line string)
	partial []byte
}

func (l *lines) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			end = len(data)
		}
		end = min(end, maxLine-len(l.partial))
		l.partial = append(l.partial, data[:end]...)
		data = data[end:]
		complete := len(l.partial) == maxLine
		if len(data) > 0 && data[0] == '\n' {
			data, complete = data[1:], true
		}
		if complete {
			l.flush()
		}
	}
	return n, nil
}

// flush passes the last line to the function l.call, if this line has no line end.
func (l *lines) flush() {
	if line := bytes.TrimRight(l.partial, "\r"); len(line) > 0 {
		l.call(string(line))
	}
	l.partial = l.partial[:0]
}
