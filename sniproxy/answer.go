package sniproxy

import (
	"crypto/tls"
	"errors"
	"os"

	"github.com/headgate/headgate/sniproxy/peek"
)

// refusal is why a client is not relayed, as far as its answer depends on that.
type refusal uint8

const (
	refuseUnknown   refusal = iota // the host is not known
	refuseNoName                   // none was named
	refuseBadName                  // what was named is none
	refuseMalformed                // the bytes break their protocol
	refuseTooLarge                 // they are too many
	refuseSlow                     // they did not come in time
	refuseProtocol                 // another protocol than this listener takes
	refuseLookup                   // the endpoint is unknown for now
	refuseDial                     // it could not be connected to
	refuseDialTime                 // … in time
	refuseBusy                     // this server lacks descriptors or the like
	refuseLoop                     // the endpoint is this server
	refuseForbidden                // … or an address that may not be connected to
)

// The alerts in use, RFC 8446 section 6.
const (
	alertHandshakeFailure    = 40
	alertDecodeError         = 50
	alertInternalError       = 80
	alertMissingExtension    = 109
	alertUnrecognizedName    = 112
	alertLevelFatal          = 2
	recordAlert              = 21
	legacyTLS10, legacyTLS12 = 0x0301, 0x0303
)

// alert is the description of the TLS alert for a refusal.
func (r refusal) alert(f face) byte {
	switch r {
	case refuseUnknown, refuseBadName:
		return alertUnrecognizedName // RFC 6066 section 3
	case refuseNoName:
		if f.version >= tls.VersionTLS13 {
			return alertMissingExtension // RFC 8446 section 9.2
		}
		return alertUnrecognizedName
	case refuseMalformed, refuseTooLarge:
		return alertDecodeError
	case refuseProtocol:
		return alertHandshakeFailure
	}
	return alertInternalError
}

// status is the status of HTTP for a refusal.
func (r refusal) status() int {
	switch r {
	case refuseUnknown:
		return 404
	case refuseTooLarge:
		return 431 // RFC 6585 section 5
	case refuseSlow:
		return 408
	case refuseLookup, refuseBusy:
		return 503
	case refuseDial, refuseForbidden:
		return 502
	case refuseDialTime:
		return 504
	case refuseLoop:
		return 508 // RFC 5842 section 7.2
	}
	return 400
}

// alertRecord is an alert as it goes over the wire, in clear as no keys are agreed on.
func alertRecord(f face, description byte) []byte {
	version := uint16(legacyTLS12)
	if f.legacy != 0 {
		version = min(max(f.legacy, legacyTLS10), legacyTLS12)
	}
	return []byte{recordAlert, byte(version >> 8), byte(version & 0xff), 0, 2, alertLevelFatal, description}
}

// refusalOf sorts an error of peek, or of the end of a hello.
func refusalOf(err error) refusal {
	switch {
	case errors.Is(err, peek.ErrNoName):
		return refuseNoName
	case errors.Is(err, peek.ErrInvalidName):
		return refuseBadName
	case errors.Is(err, peek.ErrTooLarge):
		return refuseTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuseSlow
	case errors.Is(err, peek.ErrNotTLS), errors.Is(err, peek.ErrNotHTTP):
		return refuseProtocol
	}
	return refuseMalformed
}
