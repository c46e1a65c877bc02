package main

import (
	"errors"
	"strings"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

// scalingChart is the name of the chart, which is in the same directory as the page.
const scalingChart = "scaling.svg"

// firstMark and lastMark are the lines of a page before and after the figures.
const (
	firstMark = "<!-- The figures below come from make bench-scaling. -->\n"
	lastMark  = "<!-- The figures above come from make bench-scaling. -->\n"
)

// figuresOf returns the chart and the tables of a result for a page.
func figuresOf(result report.Scaling) string {
	return "\n![Charts of processor time, memory and time until ready, with a line for each router](" + scalingChart + ")\n\n" +
		"All axes of the charts are logarithmic. A bar reaches from the lowest to the highest round.\n\n" + result.Markdown() + "\n"
}

// insertFigures replaces the text between the two marks of a page.
func insertFigures(page, figures string) (string, error) {
	before, rest, first := strings.Cut(page, firstMark)
	_, after, last := strings.Cut(rest, lastMark)
	if !first || !last {
		return "", errors.New("has no comments between which the figures belong")
	}
	return before + firstMark + figures + lastMark + after, nil
}
