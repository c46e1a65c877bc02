package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// step is one block of commands with its expected output.
type step struct {
	line     int // of the first command on the page
	commands string
	internet bool
	// output is the expected output. hasOutput is false if the page does not show any.
	output    string
	hasOutput bool
}

// A block on a page.
type block struct {
	line       int // of the first line in the block
	info, text string
}

// parse returns the steps of a page.
func parse(page, text string) ([]step, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%s: the page is not UTF-8", page)
	}
	blocks, err := fences(page, text)
	if err != nil {
		return nil, err
	}
	var steps []step
	for _, b := range blocks {
		switch b.info {
		case "sh", "sh internet":
			s := step{line: b.line, commands: b.text, internet: b.info == "sh internet"}
			if s.internet && len(steps) > 0 && !steps[len(steps)-1].internet {
				return nil, fmt.Errorf("%s:%d: a block that needs the internet must come before all other commands", page, b.line)
			}
			steps = append(steps, s)
		case "":
			if len(steps) == 0 || steps[len(steps)-1].hasOutput {
				return nil, fmt.Errorf("%s:%d: this output follows no commands", page, b.line)
			}
			last := &steps[len(steps)-1]
			last.output, last.hasOutput = b.text, true
		}
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%s: the page has no commands", page)
	}
	return steps, nil
}

// fences returns the code blocks of a page.
func fences(page, text string) ([]block, error) {
	var blocks []block
	var open *block
	for i, line := range strings.SplitAfter(text, "\n") {
		switch info, fence := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "```"); {
		case fence && open == nil:
			open = &block{line: i + 2, info: strings.TrimSpace(info)}
		case fence && info == "":
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s:%d: this block has no end", page, open.line)
	}
	return blocks, nil
}

// errOutput means that the commands of a step did not print what the page shows.
var errOutput = errors.New("the output differs from the page")

// compare returns errOutput if got is not the expected output of the step.
func (s step) compare(got string) error {
	if !s.hasOutput {
		return nil
	}
	var pattern strings.Builder
	for _, line := range lines(s.output) {
		if line == "…" {
			pattern.WriteString(`(?:[^\n]*\n)*`)
			continue
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", `[^\n]*`) + `\n`)
	}
	ok, err := regexp.MatchString(`\A`+pattern.String()+`\z`, strings.Join(lines(got), "\n")+"\n")
	if err != nil {
		return err
	}
	if !ok {
		return errOutput
	}
	return nil
}

// lines returns the lines of a text without white space at their ends, and without empty lines at
// the end of the text.
func lines(text string) []string {
	all := strings.Split(strings.TrimRight(text, " \t\r\n"), "\n")
	for i, line := range all {
		all[i] = strings.TrimRight(line, " \t\r")
	}
	return all
}
