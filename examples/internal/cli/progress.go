package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"
)

// Progress is a line on a terminal that says what a command does at the moment, and for how long
// the command has run. The line appears after two seconds, and Stop erases it. Any number of
// goroutines may call the methods. The methods of nil do nothing.
type Progress struct {
	terminal *os.File
	begin    time.Time
	stop     chan struct{} // Stop closes it
	stopped  chan struct{} // the goroutine closes it at its end
	once     sync.Once     // of Stop

	mu      sync.Mutex
	text    string
	shown   bool // the line is on the terminal
	partial bool // the last output of the command does not end in a line feed
}

const (
	progressAfter = 2 * time.Second // how long a command runs before the line appears
	progressEvery = time.Second     // how often the line is written again
)

// Progress begins a Progress with a text, which it formats as fmt.Sprintf does. The caller must
// call Stop:
//
//	defer inv.Progress("reading %d clusters", n).Stop()
//
// Progress replaces inv.Stdout and inv.Stderr by writers that erase the line before they write. So
// the command must call Progress before it copies inv or one of its writers.
//
// Progress returns nil if standard error is no terminal, or a terminal that cannot erase a line
// (TERM=dumb).
func (inv *Invocation) Progress(format string, args ...any) *Progress {
	terminal, ok := terminalOf(inv.Stderr)
	if !ok {
		return nil
	}
	if inv.LookupEnv != nil {
		if name, _ := inv.LookupEnv("TERM"); name == "dumb" {
			return nil
		}
	}
	p := &Progress{
		terminal: terminal, begin: time.Now(), text: fmt.Sprintf(format, args...),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	inv.Stderr = progressWriter{p, terminal}
	if stdout, ok := terminalOf(inv.Stdout); ok {
		inv.Stdout = progressWriter{p, stdout}
	}
	go p.run()
	return p
}

func terminalOf(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// Set replaces the text. The terminal shows the new text within a second.
func (p *Progress) Set(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = fmt.Sprintf(format, args...)
}

// Stop erases the line, and returns after the last write to the terminal. A second call does
// nothing.
func (p *Progress) Stop() {
	if p == nil {
		return
	}
	p.once.Do(func() { close(p.stop) })
	<-p.stopped
}

// run shows the line until Stop.
func (p *Progress) run() {
	defer close(p.stopped)
	timer := time.NewTimer(progressAfter)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			p.show()
			timer.Reset(progressEvery)
		case <-p.stop:
			p.mu.Lock()
			p.erase()
			p.mu.Unlock()
			return
		}
	}
}

// show writes the line in place of the last one.
func (p *Progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.partial {
		return
	}
	line := []rune(strings.Map(printable, p.text) + ", " + time.Since(p.begin).Round(time.Second).String())
	// A line that reaches the last column could continue in the next row, which erase does not erase.
	if width, _, err := term.GetSize(int(p.terminal.Fd())); err == nil && width > 0 && len(line) >= width {
		line = line[:width-1]
	}
	fmt.Fprint(p.terminal, eraseLine+string(line))
	p.shown = true
}

// eraseLine moves the cursor to the first column, and erases the line (ECMA-48, CR and EL).
const eraseLine = "\r\x1b[K"

// erase erases the line. The caller holds p.mu.
func (p *Progress) erase() {
	if p.shown {
		fmt.Fprint(p.terminal, eraseLine)
		p.shown = false
	}
}

// printable replaces a control character, such as a line feed in an error, by a space.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// progressWriter erases the line of a Progress before it writes to a terminal.
type progressWriter struct {
	p        *Progress
	terminal *os.File
}

// Write implements io.Writer.
func (w progressWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.erase()
	if len(b) > 0 {
		w.p.partial = b[len(b)-1] != '\n'
	}
	return w.terminal.Write(b)
}
