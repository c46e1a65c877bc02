package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

// fields returns the fields of a policy file, in the order of the fields of frontproxy.Settings.
func fields(s *frontproxy.Settings) []field {
	limit := func(l *haproxycfg.Limit) []field {
		return []field{{name: "requests", read: number(&l.Requests)}, {name: "connections", read: number(&l.Connections)}}
	}
	return []field{
		{name: "protocol", read: word(&s.Protocol, haproxycfg.HTTP1, haproxycfg.H2C, haproxycfg.GRPC)},
		{name: "balance", read: word(&s.Balance, haproxycfg.LeastConn, haproxycfg.RoundRobin, haproxycfg.Random)},
		{name: "connect", read: positive(&s.Connect)},
		{name: "server", read: positive(&s.Server)},
		{name: "keepAlive", read: positive(&s.KeepAlive)},
		{name: "retries", read: orOff(&s.Retries, number)},
		{name: "retryOn", read: retryOn(&s.RetryOn)},
		{name: "retryBudget", read: aboveZeroOrOff(&s.RetryPercent, percent)},
		{name: "retriesPerSecond", read: orOff(&s.RetriesPerSecond, number)},
		{name: "ejectErrors", read: orOff(&s.EjectErrors, number)},
		{name: "ejectTime", read: positive(&s.EjectTime)},
		{name: "healthPath", read: text(&s.HealthPath)},
		{name: "healthHost", read: text(&s.HealthHost)},
		{name: "panicBelow", read: orOff(&s.PanicBelow, percent)},
		{name: "overprovision", read: percentAbove0(&s.Overprovision)},
		{name: "noSpill", read: boolean(&s.NoSpill)},
		{name: "perPod", read: number(&s.PerPod)},
		{name: "pending", read: aboveZeroOrOff(&s.Pending, number)},
		{name: "queueTime", read: positive(&s.QueueTime)},
		{name: "reuse", read: word(&s.Reuse, haproxycfg.ReuseNever, haproxycfg.ReuseSafe, haproxycfg.ReuseAggressive, haproxycfg.ReuseAlways)},
		{name: "poolPurge", read: positive(&s.PoolPurge)},
		{name: "noPool", read: boolean(&s.NoPool)},
		{name: "slowStart", read: duration(&s.SlowStart)},
		{name: "closeOneIn", read: orOff(&s.CloseOneIn, number)},
		{name: "http2Requests", read: number(&s.HTTP2Requests)},
		{name: "limits", fields: append(limit(&s.Limits.Limit), field{name: "source", fields: limit(&s.Limits.Source)})},
		{name: "accessLog", read: boolean(&s.AccessLog)},
		{name: "traceSample", read: orOff(&s.TraceSample, hundredths)},
		{name: "replaceForwarded", read: boolean(&s.ReplaceForwarded)},
		{name: "grace", read: orOff(&s.Grace, duration)},
		{name: "hardStop", read: positive(&s.HardStop)},
	}
}

type reader = func(*yaml.Node) string

// isOff reports whether the value is the word "off". It looks at the text, because YAML 1.1 reads
// off as a boolean.
func isOff(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Value == "off" }

// orOff returns a reader for a setting that the policy file can switch off with the word "off" or
// with zero. For both, the reader stores -1, because 0 in Settings means the default.
func orOff[T int | time.Duration](to *T, read func(*T) reader) reader {
	return func(n *yaml.Node) string {
		if isOff(n) {
			*to = -1
			return ""
		}
		reason := read(to)(n)
		if reason == "" && *to == 0 {
			*to = -1
		}
		return reason
	}
}

// aboveZeroOrOff returns a reader for a number above 0, or for the word "off", which means no
// limit. The reader refuses 0, because a person who reads the file would understand 0 as the
// strictest limit.
func aboveZeroOrOff(to *int, read func(*int) reader) reader {
	return func(n *yaml.Node) string {
		reason := orOff(to, read)(n)
		if reason == "" && *to < 0 && !isOff(n) {
			return "must be more than 0, or off, which means no limit"
		}
		return reason
	}
}

func number(to *int) reader {
	return func(n *yaml.Node) string {
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || i < 0 {
			return fmt.Sprintf("must be a whole number from 0 to %d", math.MaxInt32)
		}
		*to = int(i)
		return ""
	}
}

func percent(to *int) reader {
	return func(n *yaml.Node) string {
		digits, ok := strings.CutSuffix(n.Value, "%")
		i, err := strconv.ParseUint(digits, 10, 16)
		if n.Kind != yaml.ScalarNode || !ok || err != nil {
			return "must be a whole percentage, such as 25%"
		}
		*to = int(i)
		return ""
	}
}

func percentAbove0(to *int) reader {
	return func(n *yaml.Node) string {
		reason := percent(to)(n)
		if reason == "" && *to == 0 {
			return "must be more than 0%"
		}
		return reason
	}
}

// hundredths returns a reader for a percentage with up to two decimals, such as "2.5%". It stores
// the number in hundredths of a percent: 250.
func hundredths(to *int) reader {
	return func(n *yaml.Node) string {
		whole, ok := strings.CutSuffix(n.Value, "%")
		whole, decimals, point := strings.Cut(whole, ".")
		i, err := strconv.ParseUint(whole+(decimals + "00")[:2], 10, 16)
		if n.Kind != yaml.ScalarNode || !ok || err != nil || whole == "" || len(decimals) > 2 || point && decimals == "" {
			return "must be a percentage with at most two decimals, such as 0.5%"
		}
		*to = int(i)
		return ""
	}
}

func duration(to *time.Duration) reader {
	return func(n *yaml.Node) string {
		d, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || d < 0 {
			return "must be a time with a unit, such as 200ms or 15s"
		}
		*to = d
		return ""
	}
}

func positive(to *time.Duration) reader {
	return func(n *yaml.Node) string {
		reason := duration(to)(n)
		if reason == "" && *to == 0 {
			return "must be longer than 0"
		}
		return reason
	}
}

func boolean(to *bool) reader {
	return func(n *yaml.Node) string {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Value != "true" && n.Value != "false" {
			return "must be true or false"
		}
		*to = n.Value == "true"
		return ""
	}
}

func text(to *string) reader {
	return func(n *yaml.Node) string {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || n.Value == "" {
			return "must be a non-empty string"
		}
		*to = n.Value
		return ""
	}
}

func word[T ~string](to *T, allowed ...T) reader {
	return func(n *yaml.Node) string {
		for _, a := range allowed {
			if n.Kind == yaml.ScalarNode && n.Value == string(a) {
				*to = a
				return ""
			}
		}
		return fmt.Sprintf("must be one of %v", allowed)
	}
}

func retryOn(to *[]haproxycfg.RetryEvent) reader {
	return func(n *yaml.Node) string {
		if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
			return "must be a list; to repeat nothing, write retries: off"
		}
		for _, item := range n.Content {
			var e haproxycfg.RetryEvent
			if reason := word(&e, haproxycfg.RetryConnFailure, haproxycfg.RetryEmptyResponse, haproxycfg.RetryResponseTimeout,
				haproxycfg.RetryJunkResponse, haproxycfg.Retry502, haproxycfg.Retry503, haproxycfg.Retry504)(item); reason != "" {
				return "each entry " + reason
			}
			*to = append(*to, e)
		}
		return ""
	}
}
