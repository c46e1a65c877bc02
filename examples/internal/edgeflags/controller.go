package edgeflags

import (
	"github.com/headgate/headgate/haproxycfg/certfiles"
	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Controller returns a Controller with the values of the flags. The Controller writes to dir. It
// checks each configuration with the program that the flag -haproxy names, and passes all warnings
// of this program to "warned". The caller must set the other fields, such as the clusters.
func (s *Settings) Controller(dir *deploy.Dir, warned func([]deploy.Diagnostic)) *controller.Controller {
	c := &controller.Controller{
		Routes:       &controller.RouteFiles{Names: s.Routes, Regions: s.Regions},
		Builder:      s.Builder,
		Dir:          dir,
		Files:        s.files(),
		Limit:        controller.MaxShare(s.MaxChange),
		MinInterval:  max(s.MinInterval, 1), // 0 would mean the default
		StartTimeout: max(s.StartTimeout, 1),
		MaxInterval:  max(s.MaxInterval, 1),
	}
	if s.Haproxy != "" {
		checker := deploy.Checker{Haproxy: s.Haproxy, Foreign: s.Foreign(dir), Warned: warned}
		c.Dir.Check, c.Version = checker.Check, checker.Version
	}
	if s.text.certs != "" && len(s.text.https) > 0 {
		c.Certificates = &certfiles.Source{Path: s.text.certs}
		if s.Haproxy != "" {
			c.Certificates.Haproxy = s.Haproxy
			c.Certificates.Check = deploy.Checker{Haproxy: s.Haproxy}.CheckCertificates
		}
	}
	return c
}

// Foreign returns the value that describes the foreign files: the files of -fragment, which somebody
// else writes and HAProxy loads first. Without -fragment, it returns nil. The program writes its
// fragment of HAProxy's configuration to dir.
func (s *Settings) Foreign(dir *deploy.Dir) *deploy.Foreign {
	if len(s.Fragment) == 0 {
		return nil
	}
	return &deploy.Foreign{Files: s.Fragment, Fragment: dir.ConfigFile()}
}

// WarnOfForeign calls the function "warned" with the settings that the fragment needs and that the
// files of -fragment lack. The Controller does the same, but only when it checks a change.
func (s *Settings) WarnOfForeign(dir *deploy.Dir, warned func([]deploy.Diagnostic)) {
	foreign := s.Foreign(dir)
	if foreign == nil {
		return
	}
	config, _ := s.Builder.Edge.Config(routes.Table{}, nil)
	unmet, err := foreign.Unmet(config.Requirements())
	if err != nil {
		unmet = []deploy.Diagnostic{{Severity: "ALERT", Text: err.Error()}}
	}
	if len(unmet) > 0 {
		warned(unmet)
	}
}

// files returns the additional output files: dns.zone if -dns-origin is set, dns-endpoints.yaml if
// -dns-endpoints is set too, and cdn.json if -cdn-origin is set.
func (s *Settings) files() (files []controller.File) {
	if s.Zone.Origin != "" {
		files = append(files, controller.File{
			Name: "dns.zone", Select: s.Zone.Publishable,
			Append: func(dst []byte, t routes.Table) ([]byte, error) { return routes.AppendZone(dst, t, s.Zone) },
		})
	}
	if s.DNSEndpoints.Name != "" {
		files = append(files, controller.File{
			// dns-endpoints.yaml has the same records as dns.zone, and the program writes both
			// files. So Publishable finds the same problems for both. The report already contains
			// these problems because of dns.zone, so the field Select of this file returns no
			// problems.
			Name: "dns-endpoints.yaml", Select: func(t routes.Table) (routes.Table, []routes.Problem) {
				t, _ = s.Zone.Publishable(t)
				return t, nil
			},
			Append: func(dst []byte, t routes.Table) ([]byte, error) {
				return routes.AppendDNSEndpoints(dst, t, s.Zone, s.DNSEndpoints)
			},
		})
	}
	if s.CDN.Origin != "" {
		files = append(files, controller.File{
			Name: "cdn.json", Select: s.CDN.Publishable,
			Append: func(dst []byte, t routes.Table) ([]byte, error) { return routes.AppendCDN(dst, t, s.CDN) },
		})
	}
	return files
}
