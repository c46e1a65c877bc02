package deploy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
)

// Effect says how an Apply has made HAProxy run a configuration. The zero Effect means that Apply
// has changed nothing in HAProxy.
type Effect struct {
	// Maps is the number of maps that Apply has changed over the socket of HAProxy.
	Maps int
	// Servers is the number of commands with which Apply has changed servers, backends and variables
	// over the socket of HAProxy.
	Servers int
	// Certificates is the number of certificates that Apply has replaced, added or deleted over the
	// socket of HAProxy.
	Certificates int
	// Reload is the reason why Apply has reloaded HAProxy, or "" without a reload.
	Reload ReloadReason
	// Detail describes the reason in words. It is "" if Reload is "".
	Detail string
}

// ReloadReason says why Apply had to reload HAProxy.
type ReloadReason string

// These are the values of ReloadReason. If several reasons apply, the first one of this list
// counts.
const (
	ReloadFirst        ReloadReason = "first"        // HAProxy got its first configuration
	ReloadSocket       ReloadReason = "socket"       // HAProxy refused the change over its socket, or did not answer
	ReloadBackends     ReloadReason = "backends"     // backends were added or removed
	ReloadCertificates ReloadReason = "certificates" // certificates changed, and HAProxy cannot change them over its socket
	ReloadServers      ReloadReason = "servers"      // servers were added, removed or changed
	ReloadSettings     ReloadReason = "settings"     // other lines of haproxy.cfg changed
	ReloadMaps         ReloadReason = "maps"         // only maps changed, but the Dir cannot change them at run time
	ReloadInterrupted  ReloadReason = "interrupted"  // no file changed, but an earlier Apply ended before HAProxy had loaded the files
)

// ReloadReasons returns all values of ReloadReason.
func ReloadReasons() []ReloadReason {
	return []ReloadReason{ReloadFirst, ReloadSocket, ReloadBackends, ReloadCertificates, ReloadServers, ReloadSettings, ReloadMaps, ReloadInterrupted}
}

// changes contains what an Apply has done so far.
type changes struct {
	replaced          []haproxycfg.RenderedFile // maps that the Apply has replaced, with their old content
	onlyMaps          bool                      // haproxy.cfg stays the same, so only maps change
	maps              int                       // see Effect.Maps
	servers           int                       // see Effect.Servers
	certificates      int                       // see Effect.Certificates
	keepsCertificates bool                      // a Runtime can make all changes of certificates over the socket
	refused           error                     // the error because of which Apply had to reload HAProxy after it had replaced maps
	reason            string                    // why a Runtime could not change servers, or ""
	reloaded          bool
}

// OverSocket reports whether Apply has changed HAProxy over its socket.
func (e Effect) OverSocket() bool { return e.Maps+e.Servers+e.Certificates > 0 }

// Effect returns the effect of the last call of Apply, even if Apply returned an error.
func (p *Plan) Effect() Effect { return p.effect }

func (p *Plan) effectOf(c changes) Effect {
	e := Effect{Maps: c.maps, Servers: c.servers, Certificates: c.certificates}
	switch {
	case !c.reloaded:
	case c.refused != nil:
		e.Reload, e.Detail = ReloadSocket, c.refused.Error()
	default:
		e.Reload, e.Detail = p.reloadReason(c.keepsCertificates)
		switch e.Reload {
		case ReloadServers, ReloadCertificates:
			e.Detail = cmp.Or(c.reason, e.Detail)
		case ReloadBackends:
			if strings.HasPrefix(c.reason, "backend ") { // it says why HAProxy could not add or delete this backend
				e.Detail = c.reason
			}
		}
	}
	return e
}

// reloadReason finds the reason for a reload in the differences of the files. If keepsCertificates
// is true, a Runtime can change the certificates without a reload, so they are not the reason.
func (p *Plan) reloadReason(keepsCertificates bool) (ReloadReason, string) {
	d := &p.Diff
	switch {
	case p.First():
		return ReloadFirst, "HAProxy gets its first configuration"
	case d.Empty():
		return ReloadInterrupted, "an earlier change was interrupted before HAProxy had loaded the files"
	}
	var backends, settings, servers []string
	for i := range d.Backends {
		switch b := &d.Backends[i]; {
		case b.Added:
			backends = append(backends, "backend "+b.Name+" is new")
		case b.Removed:
			backends = append(backends, "backend "+b.Name+" is gone")
		case len(b.ServersAdded)+len(b.ServersRemoved)+len(b.ServersAltered) > 0:
			servers = append(servers, "servers of backend "+b.Name+" have changed")
		default:
			settings = append(settings, "settings of backend "+b.Name+" have changed")
		}
	}
	for _, s := range d.Sections {
		settings = append(settings, s+" has changed")
	}
	switch {
	case len(backends) > 0:
		return ReloadBackends, few(backends)
	case !keepsCertificates && p.certificatesDiffer():
		return ReloadCertificates, "certificates have changed"
	case len(servers) > 0:
		return ReloadServers, few(servers)
	case len(settings) > 0:
		return ReloadSettings, few(settings)
	}
	return ReloadMaps, "maps have changed"
}

// certificatesDiffer reports whether a list of certificates has changed. The list contains the names
// of the certificates, and a name contains a hash of the content.
func (p *Plan) certificatesDiffer() bool {
	names := func(files []haproxycfg.RenderedFile) (all []string) {
		for _, f := range files {
			if !f.Private && strings.HasPrefix(f.Name, certsDir+"/") && strings.HasSuffix(f.Name, ".list") {
				all = append(all, f.Name)
			}
		}
		return all
	}
	return !slices.Equal(names(p.before), names(p.after.files))
}

// The function "few" joins the first three reasons.
func few(reasons []string) string {
	const most = 3
	text := strings.Join(reasons[:min(most, len(reasons))], "; ")
	if more := len(reasons) - most; more > 0 {
		text += fmt.Sprintf("; %d further reasons", more)
	}
	return text
}
