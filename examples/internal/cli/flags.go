package cli

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/examples/internal/usage"
	"github.com/headgate/headgate/internal/inputfile"
)

// EnvPrefix begins the name of the environment variable for a flag. For example,
// HEADGATE_NODES_PER_SERVICE sets the flag -nodes-per-service.
const EnvPrefix = "HEADGATE_"

// NewFlagSet returns a flag set with the flags -config and -version. The argument "command" is the
// beginning of the command line, such as "terminator explain".
func NewFlagSet(command string) *flag.FlagSet {
	fs := flag.NewFlagSet(command, flag.ContinueOnError)
	fs.String("config", "", "YAML `file` of flag names and values; flags and environment override it")
	defineVersion(fs)
	return fs
}

func defineVersion(fs *flag.FlagSet) { fs.Bool("version", false, "print the version, and exit") }

// Strings is a flag that may occur several times on the command line. In the environment, white
// space separates the values. In the YAML file that -config names, the values are a list.
type Strings []string

func (s *Strings) String() string { return strings.Join(*s, " ") }

// Set appends one value.
func (s *Strings) Set(v string) error { *s = append(*s, v); return nil }

// isList reports whether a flag may occur several times.
func isList(v flag.Value) bool {
	switch v.(type) {
	case *Strings, *Networks:
		return true
	}
	return false
}

// Parse sets the flags of fs from the arguments, the environment and the file that -config names.
// If done is true, Parse has printed an error, the help text of -h or the version, and the binary must
// exit with the exit status in code.
func (inv Invocation) Parse(fs *flag.FlagSet) (code int, done bool) {
	if inv.describe != nil {
		inv.describe(fs)
		return ExitOK, true
	}
	err := inv.parse(fs)
	switch {
	case err == nil:
		inv.warnOfVariables(fs)
		return ExitOK, false
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(inv.Stdout, inv.help(fs))
		return ExitOK, true
	case errors.Is(err, errVersion):
		name, _, _ := strings.Cut(fs.Name(), " ") // the binary, also after "terminator explain -version"
		fmt.Fprintln(inv.Stdout, name, thisBuild())
		return ExitOK, true
	default:
		return inv.Fail(ExitUsage, fs.Name(), "%v (-h shows the flags)", err), true
	}
}

// parse returns errVersion if the arguments contain -version.
var errVersion = errors.New("the version is wanted")

// onlyArgument reports whether a flag can be set only by an argument: not in the environment, and not
// in the file of -config.
func onlyArgument(name string) bool { return name == "version" }

// parse sets each flag of fs from the arguments, or else from the environment, or else from the
// file that -config names.
func (inv Invocation) parse(fs *flag.FlagSet) error {
	// Without the next two lines, package flag would print the error and all flags.
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	if err := fs.Parse(inv.Args); err != nil {
		return readable(fs, err)
	}
	if version := fs.Lookup("version"); version != nil && version.Value.String() == "true" {
		return errVersion
	}
	if fs.NArg() > 0 {
		return inv.unexpected(fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if err := fromEnvironment(fs, given, inv.LookupEnv); err != nil {
		return err
	}
	if file := fs.Lookup("config"); file != nil && file.Value.String() != "" {
		return fromFile(fs, given, file.Value.String())
	}
	return nil
}

func fromEnvironment(fs *flag.FlagSet, given map[string]bool, lookupEnv func(string) (string, bool)) error {
	if lookupEnv == nil {
		return nil
	}
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := variable(f.Name)
		v, ok := lookupEnv(name)
		if !ok || given[f.Name] || onlyArgument(f.Name) {
			return
		}
		given[f.Name] = true
		values := []string{v}
		if isList(f.Value) {
			values = strings.Fields(v)
		}
		for _, v := range values {
			if err := fs.Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("invalid value %q for %s: %w", v, name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// maxSettings is the largest size, in bytes, of the file of -config.
const maxSettings = 1 << 20

func fromFile(fs *flag.FlagSet, given map[string]bool, file string) error {
	data, err := inputfile.Read(file, maxSettings)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(doc.Content) == 0 { // an empty file, or only comments
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: want flag names with values", file, root.Line)
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if err := fromNode(fs, given, key.Value, value); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", file, key.Line, key.Value, err)
		}
	}
	return nil
}

func fromNode(fs *flag.FlagSet, given map[string]bool, name string, value *yaml.Node) error {
	f := fs.Lookup(name)
	switch {
	case name == "config" || onlyArgument(name):
		return errors.New("the file cannot set this flag")
	case f == nil:
		return errors.New("no such flag" + usage.DidYouMean("", name, flagNames(fs)))
	}
	if given[name] {
		return nil
	}
	values := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		if !isList(f.Value) {
			return errors.New("takes one value, not a list")
		}
		values = value.Content
	}
	for _, v := range values {
		if v.Kind != yaml.ScalarNode {
			return errors.New("want a plain value")
		}
		if err := fs.Set(name, v.Value); err != nil {
			return fmt.Errorf("invalid value %q: %w", v.Value, err)
		}
	}
	return nil
}

// CutArgument returns the first argument that is neither a flag of fs nor the value of a flag, and
// the other arguments. A subcommand calls it before Parse, which stops at such an argument. So the
// argument may stand before, between or after the flags.
func CutArgument(fs *flag.FlagSet, args []string) (argument string, others []string) {
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			return args[i], slices.Concat(args[:i], args[i+1:])
		}
		f := fs.Lookup(strings.TrimLeft(args[i], "-"))
		if f == nil { // unknown, or -name=value
			continue
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); !ok || !b.IsBoolFlag() {
			i++
		}
	}
	return "", args
}

// CutArguments returns all arguments that are neither a flag of fs nor the value of a flag, and the
// other arguments. CutArgument returns only the first of them.
func CutArguments(fs *flag.FlagSet, args []string) (arguments, others []string) {
	for {
		argument, others := CutArgument(fs, args)
		if argument == "" {
			return arguments, args
		}
		arguments, args = append(arguments, argument), others
	}
}

// AlsoIPv6 reports whether a listener on the address must also listen on IPv6. An address without a
// host, such as ":80", means all addresses: IPv4, and IPv6 if this machine supports IPv6.
func AlsoIPv6(addr string) bool { return strings.HasPrefix(addr, ":") && hasIPv6() }

// hasIPv6 reports whether this machine supports IPv6.
var hasIPv6 = sync.OnceValue(func() bool {
	l, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
})

// NoneIfZero converts the value of a flag for a field of a package. In the flag, 0 means "none" or
// "no limit". In the field, 0 means the default, and a negative value means "none" or "no limit".
func NoneIfZero[T int | time.Duration](v T) T { return cmp.Or(v, -1) }

// ParseShare reads a share from 0 to 1, such as "30%" or "0.3". The number may contain only digits
// and a decimal point: no sign and no exponent.
func ParseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || strings.Trim(number, "0123456789.") != "" || share > 1 { // no "1e1", "0x1" or "NaN"
		return 0, errors.New("want a share such as 30%")
	}
	return share, nil
}

// Networks is the value of a flag that may occur several times. Each occurrence contains one or
// more networks or single addresses, with commas between them.
type Networks []netip.Prefix

// String returns the networks, with commas between them.
func (n *Networks) String() string {
	var texts []string
	for _, p := range *n {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}

// Set appends the networks of a value.
func (n *Networks) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		prefix, err := netip.ParsePrefix(part)
		if addr, addrErr := netip.ParseAddr(part); addrErr == nil && addr.Zone() == "" {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil || prefix.Addr().Is4In6() { // such a prefix matches no address
			return fmt.Errorf("%q: want a network such as 10.0.0.0/8", part)
		}
		*n = append(*n, prefix.Masked())
	}
	return nil
}
