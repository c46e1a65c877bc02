// Pages runs the commands of pages that a newcomer follows from the first line to the last, and
// compares their output with the output on the page.
//
// Usage, as root:
//
//	pages [-v] CHECKOUT PAGE...   CHECKOUT is the directory that "git clone" on a page copies
//
// The commands of a page are its code blocks with the language sh. All blocks of a page go to the
// standard input of one bash, which ends at the first command that fails.
//
// A code block without a language, after a block of commands, is the expected output of these
// commands, line by line. "…" in a line stands for any text. A line that contains only "…" stands
// for any number of lines.
//
// A block with the language "sh internet" needs the internet. These blocks come first on a page.
// The other blocks run in a network namespace that has only loopback.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("pages: ")
	verbose := flag.Bool("v", false, "print the commands and their output")
	deadline := flag.Duration("deadline", 5*time.Minute, "how long the commands of one block may run")
	build := flag.Duration("internet-deadline", 40*time.Minute, "how long the commands of a block that needs the internet may run")
	flag.Parse()
	if flag.NArg() < 2 {
		log.Fatal("usage: pages [-v] CHECKOUT PAGE...")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := runner{deadline: *deadline, internetDeadline: *build, log: io.Discard}
	if *verbose {
		r.log = os.Stdout
	}
	failed := false
	for _, page := range flag.Args()[1:] {
		start := time.Now()
		n, err := runPage(ctx, r, flag.Arg(0), page)
		if err != nil {
			log.Print(err)
			failed = true
			continue
		}
		fmt.Printf("%s: %d blocks of commands passed in %s\n", page, n, time.Since(start).Round(time.Second))
	}
	if failed {
		os.Exit(1)
	}
}

// runPage runs one page in a directory of its own, and returns the number of its blocks.
func runPage(ctx context.Context, r runner, checkout, page string) (int, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return 0, err
	}
	steps, err := parse(page, string(text))
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "headgate-page-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if checkout, err = filepath.Abs(checkout); err != nil {
		return 0, err
	}
	if r.env, err = environment(dir, checkout); err != nil {
		return 0, err
	}
	if r.dir = filepath.Join(dir, "work"); os.Mkdir(r.dir, 0o755) != nil {
		return 0, fmt.Errorf("%s exists", r.dir)
	}
	return len(steps), r.run(ctx, page, steps)
}
