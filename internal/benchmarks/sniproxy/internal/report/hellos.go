package report

import (
	"fmt"
	"strings"
)

// Hellos is the outcome of a run that counts which hellos reach the right backend.
type Hellos struct {
	Command string
	Machine string
	Clients []HelloClient
	Ways    []string // how the run sent each hello
	Routers []HelloRouter
}

// HelloClient is a client, and the hello that it sent.
type HelloClient struct {
	Name        string
	Version     string
	Size        int  // of the hello in bytes
	PostQuantum bool // the hello has a post-quantum key share
}

// HelloRouter is a row of the table.
type HelloRouter struct {
	Name       string
	Version    string
	Problem    string  // why the router did not run; "" if it ran
	Ways       []Count // for each element of Hellos.Ways
	Handshakes Count   // whole handshakes of the clients
}

// Count is the number of hellos that a run sent in one way through one router, and the names of the
// clients whose hello did not reach its backend.
type Count struct {
	Sent   int
	Missed []string
}

func (c Count) String() string {
	text := fmt.Sprintf("%d / %d", c.Sent-len(c.Missed), c.Sent)
	if len(c.Missed) > 0 {
		text = "**" + text + "**"
	}
	return text
}

// Missed returns how many hellos and handshakes did not reach their backend through the router with
// this name.
func (h Hellos) Missed(router string) (n int) {
	for _, r := range h.Routers {
		if r.Name != router {
			continue
		}
		for _, c := range append([]Count{r.Handshakes}, r.Ways...) {
			n += len(c.Missed)
		}
	}
	return n
}

// Markdown returns the result as text with tables in Markdown.
func (h Hellos) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`\n\n%s\n\n", h.Command, h.Machine)
	clients := [][]string{{"client", "version", "hello bytes", "post-quantum key share"}}
	for _, c := range h.Clients {
		clients = append(clients, []string{c.Name, c.Version, group(c.Size), map[bool]string{true: "yes", false: "no"}[c.PostQuantum]})
	}
	b.WriteString(markdown(clients))

	rows := [][]string{append(append([]string{"router"}, h.Ways...), "all ways", "whole handshakes")}
	var notes strings.Builder
	for _, r := range h.Routers {
		title := Router{Name: r.Name, Version: r.Version}.Title()
		if r.Problem != "" {
			fmt.Fprintf(&notes, "- %s did not run: %s\n", title, r.Problem)
			continue
		}
		row := []string{title}
		var all Count
		for _, c := range r.Ways {
			row = append(row, c.String())
			all.Sent += c.Sent
			all.Missed = append(all.Missed, c.Missed...)
		}
		notes.WriteString(r.notes(h.Ways))
		rows = append(rows, append(row, all.String(), r.Handshakes.String()))
	}
	fmt.Fprintf(&b, "\n%s\nEach cell has the number of hellos that reached the right backend, and the number of hellos sent. A bold cell has a loss.\n", markdown(rows))
	if notes.Len() > 0 {
		b.WriteString("\n" + notes.String())
	}
	return b.String()
}

// notes returns lines of text about the missed hellos. If the hellos of the same clients were
// missed in several ways of sending, one line names these ways and these clients.
func (r HelloRouter) notes(ways []string) string {
	var lists []string
	in := make(map[string][]string) // ways by list of clients
	add := func(way string, c Count) {
		if len(c.Missed) == 0 {
			return
		}
		list := "not " + strings.Join(c.Missed, ", ")
		if len(c.Missed) == c.Sent {
			list = "no client"
		}
		if in[list] == nil {
			lists = append(lists, list)
		}
		in[list] = append(in[list], way)
	}
	for i, c := range r.Ways {
		add(ways[i], c)
	}
	add("whole handshakes", r.Handshakes)
	var b strings.Builder
	for _, list := range lists {
		fmt.Fprintf(&b, "- %s: %s: %s\n", r.Name, strings.Join(in[list], ", "), list)
	}
	return b.String()
}
