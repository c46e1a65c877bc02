package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runText runs a page, and returns its error.
func runText(t *testing.T, text string) error {
	t.Helper()
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runner{deadline: time.Minute, internetDeadline: time.Minute, log: io.Discard}
	_, err := runPage(context.Background(), r, ".", page)
	return err
}

func TestPagePasses(t *testing.T) {
	err := runText(t, strings.Join([]string{
		// Each block begins with the working directory, the variables and the functions of the
		// block before it.
		"```sh internet\nmkdir sub\ncd sub\nexport NAME=first\n```",
		"```sh\nbasename $PWD; echo \"$NAME $$\"\nprintf 'no line feed'\n```\n```\nsub\nfirst 1\nno line feed\n```",
		"```sh\ncat > file <<'EOF'\nline\nEOF\ncat file\n```\n```\nline\n```",
		// The network of this block has only loopback, and loopback is up.
		"```sh\nip -o link show up | wc -l\nip -o addr show lo | grep -c 127.0.0.1\n```\n```\n1\n1\n```",
		// A step ends before its background processes end. They may print later.
		"```sh\nsleep 1000 &\nfalse || echo \"exit status $?\"\n```\n```\nexit status 1\n```",
		// If a command starts a shell, the following commands go to that shell.
		"```sh\nbash\n```",
		"```sh\necho \"depth $SHLVL\"\nexit\n```\n```\ndepth …\n```",
		"```sh\ngit config --get-regexp insteadof\n```\n```\n…https://github.com/headgate/headgate\n```",
	}, "\n\n"))
	if err != nil {
		t.Error(err)
	}
}

func TestPageFails(t *testing.T) {
	for page, message := range map[string]string{
		"```sh\necho right\n```\n```\nwrong\n```\n":                "page.md:2: the output differs from the page",
		"\n```sh\nfalse\necho on\n```\n":                           "page.md:3: a command failed: the shell ended with exit status 1",
		"```sh\nbash\n```\n```sh\nfalse\n```\n":                    "page.md:5: a command failed",
		"```sh\necho 'no end\n```\n":                               "page.md:2: the commands are no complete bash commands",
		"```sh\ncat <<EOF\nno end\n```\n":                          "page.md:2: the commands are no complete bash commands",
		"```sh\ncat missing-file\n```\n":                           "missing-file: No such file",
		"```sh\ncat no-such-page-file || true\n```\n```\nx\n```\n": "    cat no-such-page-file || true\nthe output on the page:\n    x\nthe output:\n    cat: no-such-page-file",
		"no commands\n":                                            "the page has no commands",
	} {
		if err := runText(t, page); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%q:\n%v\nwant %q", page, err, message)
		}
	}
}

func TestDeadline(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("```sh\nsleep 1000\n```\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runner{deadline: time.Millisecond, internetDeadline: time.Minute, log: io.Discard}
	if _, err := runPage(context.Background(), r, ".", page); err == nil || !strings.Contains(err.Error(), "have not ended within 1ms") {
		t.Error(err)
	}
}

// TestProcessesEnd checks that a process that leaves the session of its shell ends with the page,
// whether the page passes or fails.
func TestProcessesEnd(t *testing.T) {
	for _, last := range []string{"true", "false"} {
		name := fmt.Sprintf("headgate-page-test-%d-%s", os.Getpid(), last)
		page := "```sh\n(exec -a " + name + " setsid sleep 1000) &\n" + last + "\n```\n"
		if err := runText(t, page); (err == nil) != (last == "true") {
			t.Error(err)
		}
		all, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range all {
			if b, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(b), name) {
				t.Errorf("the process %s still runs", file)
			}
		}
	}
}
