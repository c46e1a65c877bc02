package deploy

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// variable holds the name and the value of a variable of HAProxy, from a line "set-var proc.NAME
// int(VALUE)" in the section "global".
type variable struct {
	name  string
	value int
}

// parseVariable parses a line "set-var proc.NAME int(VALUE)" of the section "global". ok is false
// if the line has another form.
func parseVariable(line string) (v variable, ok bool) {
	words := strings.Fields(line)
	if len(words) != 3 || words[0] != "set-var" {
		return v, false
	}
	name, ok1 := strings.CutPrefix(words[1], "proc.")
	number, ok2 := strings.CutPrefix(words[2], "int(")
	number, ok3 := strings.CutSuffix(number, ")")
	value, err := strconv.Atoi(number)
	return variable{name, value}, ok1 && ok2 && ok3 && err == nil
}

// variables returns the variables in the text of a haproxy.cfg with their values, in the order of
// the text.
func variables(config []byte) []variable {
	var all []variable
	for _, line := range cutSections(config)["global"].lines().others {
		if v, ok := parseVariable(line); ok {
			all = append(all, v)
		}
	}
	return all
}

// changedVariables returns the variables of a new configuration that are missing in at least one of
// the earlier configurations, or have another value there. A running HAProxy may not have the new
// values of these variables yet. The argument "after" is the text of the new configuration.
func changedVariables(after []byte, earlier ...[]byte) []variable {
	var changed []variable
	for _, v := range variables(after) {
		for _, config := range earlier {
			if !slices.Contains(variables(config), v) {
				changed = append(changed, v)
				break
			}
		}
	}
	return changed
}

// backendChanges are the backends that a change adds and deletes at run time. A key is the name of a
// backend. The value is the name of a section "defaults" with the settings of this backend. HAProxy
// has loaded this section.
type backendChanges struct{ added, gone map[string]string }

// otherChange describes a difference between two configurations that HAProxy can follow only with a
// reload, such as "backend shop is new". It ignores the differences of servers, certificates and
// values of variables. If there is no other difference, it returns "".
//
// If "loaded" is true, HAProxy certainly runs the configuration "before". Then otherChange also
// ignores the backends that HAProxy can add and delete at run time, and returns them. It leaves the
// check of tracked servers to its caller.
func otherChange(before, after []byte, loaded bool) (backends backendChanges, reload string) {
	a, b := cutSections(before), cutSections(after)
	lists := certificateLists(after)
	var heads []string
	for head, was := range a {
		if now, ok := b[head]; !ok || !bytes.Equal(was.text, now.text) {
			heads = append(heads, head)
		}
	}
	for head := range b {
		if _, ok := a[head]; !ok {
			heads = append(heads, head)
		}
	}
	slices.Sort(heads)
	backends = backendChanges{map[string]string{}, map[string]string{}}
	var settings map[string]string // see settingsByLines
	if loaded {
		settings = settingsByLines(a)
	}
	for _, head := range heads {
		was, inBefore := a[head]
		now, inAfter := b[head]
		name, isBackend := strings.CutPrefix(head, "backend ")
		from := ""
		if isBackend && inBefore != inAfter {
			from = settings[joinedLines(head, cmp.Or(string(was.text), string(now.text)))]
		}
		switch {
		case !inAfter && isSettings(head): // HAProxy keeps the section until the next reload
		case !inAfter && from != "":
			backends.gone[name] = from
		case !inBefore && from != "":
			backends.added[name] = from
		case !inAfter:
			return backendChanges{}, head + " is gone"
		case !inBefore && isBackend && len(settings) > 0:
			return backendChanges{}, head + " is new, and no other backend has its settings"
		case !inBefore:
			return backendChanges{}, head + " is new"
		case !slices.Equal(otherLines(head, was, lists), otherLines(head, now, lists)):
			return backendChanges{}, head + " has changed"
		}
	}
	return backends, ""
}

// settingsHead matches the first line of a section "defaults" with the settings of backends, as
// package haproxycfg renders it for HAProxy 3.4.
var settingsHead = regexp.MustCompile(`^defaults .*settings-[0-9a-f]{10}$`)

func isSettings(head string) bool { return settingsHead.MatchString(head) }

// settingsByLines returns the names of the sections "defaults" with the settings of backends. A key is
// the lines of a backend with these settings, as joinedLines returns them.
//
// A configuration also has a common section "defaults". Each section with the settings of backends
// begins with the lines of the common section, and then has the lines of the key.
func settingsByLines(sections map[string]section) map[string]string {
	common := ""
	for head, s := range sections {
		if word, _ := cutWord(head); word == "defaults" && !isSettings(head) {
			common = joinedLines(head, string(s.text))
		}
	}
	settings := map[string]string{}
	for head, s := range sections {
		if lines, ok := strings.CutPrefix(joinedLines(head, string(s.text)), common); ok && isSettings(head) {
			_, name, _ := strings.Cut(head, " ")
			settings[lines] = name
		}
	}
	return settings
}

// joinedLines returns the lines of a section below its first line, without server lines.
func joinedLines(head, text string) string {
	var b strings.Builder
	for _, line := range otherLines(head, section{text: []byte(text)}, nil)[1:] {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// otherLines returns the lines of a section, except server lines, the values of variables, and the
// hashes in the file names of certificate lists. The keys of the argument "lists" are the names of
// these lists.
func otherLines(head string, s section, lists map[string]string) []string {
	backend := strings.HasPrefix(head, "backend ")
	var others []string
	for line := range bytes.Lines(s.text) {
		line := string(bytes.TrimSpace(line))
		if word, _ := cutWord(line); line == "" || line[0] == '#' || backend && word == "server" {
			continue
		}
		if v, ok := parseVariable(line); ok && head == "global" {
			line = "set-var proc." + v.name
		}
		if len(lists) > 0 && namesFiles([]byte(line)) {
			line = withoutListHashes(line, lists)
		}
		others = append(others, line)
	}
	return others
}

// textServers returns the servers in the text of a haproxy.cfg. Their field Add is not a command:
// it contains the options in the line of the server, except its weight and "disabled", for the
// comparisons in [runtimeapi.Unsettled] and withCommands.
func textServers(config []byte) []runtimeapi.Backend {
	var all []runtimeapi.Backend
	tracked := map[string]bool{} // keys are names of backends
	for head, section := range cutSections(config) {
		name, ok := strings.CutPrefix(head, "backend ")
		if !ok {
			continue
		}
		lines := section.lines()
		b := runtimeapi.Backend{Name: name, Servers: make([]runtimeapi.Server, 0, len(lines.servers))}
		for _, line := range lines.others {
			word, rest := cutWord(line)
			algorithm, _ := cutWord(rest)
			if word == "balance" && (algorithm == "source" || algorithm == "uri" || algorithm == "static-rr") {
				b.Fixed = "the backend has balance " + algorithm
			}
		}
		for _, server := range lines.servers {
			s, track := textServer(lines.byName[server])
			if track != "" {
				at, _, _ := strings.Cut(track, "/")
				tracked[at] = true
			}
			b.Servers = append(b.Servers, s)
		}
		all = append(all, b)
	}
	for i, b := range all {
		all[i].Tracked = tracked[b.Name]
	}
	slices.SortFunc(all, func(a, b runtimeapi.Backend) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// textServer parses a line "server NAME ADDRESS WORD…". The result "track" is the word after
// "track", or "" if the line does not contain "track".
func textServer(line string) (s runtimeapi.Server, track string) {
	words := strings.FieldsFunc(line, func(r rune) bool { return !isWordRune(r) }) // as cutWord
	s.Name, s.Weight = words[1], 1
	words = words[2:]
	if len(words) == 0 {
		return s, ""
	}
	s.Addr, _ = netip.ParseAddrPort(words[0])
	kept := make([]string, 0, len(words))
	for i := 1; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch words[i] {
		case "weight":
			s.Weight, _ = strconv.Atoi(next)
			i++
			continue
		case "disabled":
			s.Maint = true
			continue
		case "check":
			s.Check = true
		case "agent-check":
			s.Agent = true
		case "track":
			track = next
		}
		kept = append(kept, words[i])
	}
	address := "-"
	if !s.Addr.IsValid() {
		address = "- " + words[0] // a DNS name or a Unix socket, which only a reload changes
	}
	s.Add = "add server " + s.Name + " " + address + " " + strings.Join(kept, " ")
	return s, track
}

// wantedServers returns the servers in the text of a haproxy.cfg, with the commands that add them.
// config is the configuration from which somebody rendered the text. If config is nil, the servers
// have no commands.
func wantedServers(text []byte, config *haproxycfg.Config) []runtimeapi.Backend {
	all := textServers(text)
	commands := addCommands(config)
	for _, b := range all {
		for j := range b.Servers {
			b.Servers[j].Add = commands[b.Name+"/"+b.Servers[j].Name]
		}
	}
	return all
}

// addCommands returns the command "add server" for each server of a configuration, by
// "backend/server". It leaves out servers that HAProxy cannot add at run time. Before 3.0, it also
// leaves out slots (servers with fixed names), because a program only changes the address of a
// slot.
func addCommands(config *haproxycfg.Config) map[string]string {
	commands := map[string]string{}
	if config == nil || !config.Global.Version.AtLeast(2, 6) {
		return commands
	}
	for i := range config.Backends {
		b := &config.Backends[i]
		for _, s := range b.Servers {
			if s.Slot != "" && !config.Global.Version.AtLeast(3, 0) {
				continue
			}
			if command, err := b.AddServer(s); err == nil {
				commands[b.Name+"/"+s.Name()] = command
			}
		}
	}
	return commands
}

// otherWords is the value of Server.Add for a server whose settings differ between the old and the
// new configuration. It differs from every command "add server". So a plan replaces the server, as
// it replaces every server whose Add is not the wanted command.
const otherWords = "the words of the server differ"

// withCommands prepares the servers of the old configuration for [runtimeapi.Actual.Plan], which
// replaces each server whose field Add differs from the wanted Add. withCommands sets Add to the
// wanted command if the options of the server are the same, and to otherWords if they differ.
//
// The arguments "before" (the old servers) and "now" (the new servers) are results of textServers.
// The argument "wanted" contains the same servers as "now", in the same order, but their field Add
// is the command "add server".
func withCommands(before, now, wanted []runtimeapi.Backend) []runtimeapi.Backend {
	texts, commands := map[string]string{}, map[string]string{}
	for i, b := range now {
		for j, s := range b.Servers {
			texts[b.Name+"/"+s.Name] = s.Add
			commands[b.Name+"/"+s.Name] = wanted[i].Servers[j].Add
		}
	}
	all := make([]runtimeapi.Backend, len(before))
	for i, b := range before {
		all[i] = runtimeapi.Backend{Name: b.Name, Servers: slices.Clone(b.Servers)}
		for j := range all[i].Servers {
			s := &all[i].Servers[j]
			name := b.Name + "/" + s.Name
			if text, ok := texts[name]; ok && text == s.Add {
				s.Add = commands[name]
			} else {
				s.Add = otherWords
			}
		}
	}
	return all
}

// trackOf returns the server that a server tracks, as "backend/server", or "" if the server tracks
// no server. words is the Add of the server, as textServers returns it.
func trackOf(words string) string {
	for word, rest := cutWord(words); word != ""; word, rest = cutWord(rest) {
		if word == "track" {
			track, _ := cutWord(rest)
			return track
		}
	}
	return ""
}

// cannotChange returns the reason why no HAProxy can change from the old to the wanted servers at
// run time. It returns "" if there is no such reason; the running HAProxy may still refuse the
// change. The arguments:
//
//   - before, now: the old and the wanted servers, as textServers returns them;
//   - wanted: the wanted servers, as wantedServers returns them;
//   - kept: the options of removed servers that HAProxy still has, by "backend/server";
//   - most: the largest number of servers that may be replaced at run time. 0 means that HAProxy
//     cannot replace servers.
func cannotChange(before, now, wanted []runtimeapi.Backend, kept map[string]string, most int) string {
	was := wordsOf(before)
	replaced := 0
	for i, b := range now {
		fixed := b.Fixed
		if b.Tracked {
			fixed = "other servers track its servers"
		}
		stays := make(map[string]bool, len(b.Servers))
		for j, s := range b.Servers {
			name := b.Name + "/" + s.Name
			stays[s.Name] = true
			words, ok := was[name]
			if !ok {
				words, ok = kept[name]
			}
			if ok && words == s.Add {
				continue
			}
			if ok {
				replaced++
			}
			track := trackOf(s.Add)
			_, loaded := was[track]
			if !loaded {
				_, loaded = kept[track]
			}
			switch {
			case fixed != "":
				return "server " + name + " is new or has other words, and " + fixed
			case wanted[i].Servers[j].Add == "":
				return "HAProxy cannot add server " + name + " at run time"
			case track != "" && !loaded:
				return "server " + name + " tracks a new server"
			case replaced > most:
				return fmt.Sprintf("more than %d servers have other words", most)
			}
		}
		if b.Fixed == "" {
			continue
		}
		at, found := slices.BinarySearchFunc(before, b.Name, func(x runtimeapi.Backend, name string) int { return strings.Compare(x.Name, name) })
		if found && slices.ContainsFunc(before[at].Servers, func(s runtimeapi.Server) bool { return !stays[s.Name] }) {
			return "a server of backend " + b.Name + " is gone, and " + b.Fixed
		}
	}
	return ""
}
