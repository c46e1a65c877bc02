package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// build describes how a binary was built.
type build struct {
	Version  string // of the module, such as "v0.1.0"; "(devel)" if Go does not know the version
	Revision string // the commit, or "unknown"
	Time     string // of the commit, such as "2026-01-31T12:00:00Z", or "unknown"
	Go       string // such as "go1.26.0"
}

// thisBuild returns the build of this binary.
func thisBuild() build {
	info, _ := debug.ReadBuildInfo()
	return buildOf(info)
}

// buildOf returns the build in the build information of a binary. If info is nil, the binary has no
// build information.
func buildOf(info *debug.BuildInfo) build {
	if info == nil {
		info = &debug.BuildInfo{}
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return build{
		Version:  cmp.Or(info.Main.Version, "(devel)"),
		Revision: cmp.Or(settings["vcs.revision"], "unknown"),
		Time:     cmp.Or(settings["vcs.time"], "unknown"),
		Go:       cmp.Or(info.GoVersion, runtime.Version()),
	}
}

// String returns the build in one line.
func (b build) String() string {
	return fmt.Sprintf("%s, commit %s of %s, %s %s/%s", b.Version, b.Revision, b.Time, b.Go, runtime.GOOS, runtime.GOARCH)
}

// metric returns the metric headgate_build_info.
func (b build) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "headgate_build_info",
		Help:        "Always 1. The labels are the version of the binary, its commit, and the version of Go that built it.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.Go},
	}, func() float64 { return 1 })
}
