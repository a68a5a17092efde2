// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is what a fault does.
type Kind string

// The kinds of faults. A kill is a SIGKILL and a start after some time; a stop is SIGSTOP and SIGCONT.
const (
	Kill Kind = "kill"
	Stop Kind = "stop"
	// Reboot is a kill after which the process starts with another monotonic clock, as on a machine that was rebooted.
	Reboot Kind = "reboot"
	// DiskFull leaves no room on the disk of a dispatcher's queue.
	DiskFull Kind = "diskFull"
	// What the network to a receiver does: nothing connects, all is slow, connections are reset, bytes vanish.
	NetworkCut      Kind = "networkCut"
	NetworkSlow     Kind = "networkSlow"
	NetworkReset    Kind = "networkReset"
	NetworkHalfOpen Kind = "networkHalfOpen"
	// The name server does not answer, or answers with its failure.
	DNSSilent  Kind = "dnsSilent"
	DNSFailing Kind = "dnsFailing"
	// A receiver shows a new certificate, or one that has expired.
	CertificateRotated Kind = "certificateRotated"
	CertificateExpired Kind = "certificateExpired"
	// AuthorityRotated is a new CA of the manager's control service, with an overlap.
	AuthorityRotated Kind = "authorityRotated"
	// An endpoint's signing key gets a successor.
	KeyRotated Kind = "keyRotated"
	// What happens to the objects.
	Suspended Kind = "suspended"
	Changed   Kind = "changed"
	Recreated Kind = "recreated"
	Deleted   Kind = "deleted" // for good
	Gone      Kind = "gone"    // the receiver answers 410 for some time
)

// Target is whom a fault hits. The number tells dispatchers, receivers and endpoints apart.
type Target struct {
	Role   Role
	Number int
}

// Role is a kind of target.
type Role string

// The roles. The endpoints with a fate of their own have roles of their own: see fleet.
const (
	Dispatcher Role = "dispatcher"
	Manager    Role = "manager"
	APIServer  Role = "apiserver"
	Etcd       Role = "etcd"
	Receiver   Role = "receiver"
	DNS        Role = "dns"
	Endpoint   Role = "endpoint"
	Moving     Role = "movingEndpoint"
	Doomed     Role = "doomedEndpoint"
	Leaving    Role = "leavingEndpoint" // whose receiver answers 410 at times
)

func (t Target) String() string { return fmt.Sprintf("%s-%d", t.Role, t.Number) }

// Fault is one entry of a schedule.
type Fault struct {
	At     time.Duration // since the start of the load
	Kind   Kind
	Target Target
	// For is how long it lasts: until the start, until the end of the stop.
	For time.Duration
}

func (f Fault) String() string {
	return fmt.Sprintf("%8.3fs  %-18s %-14s for %s", f.At.Seconds(), f.Kind, f.Target, f.For.Round(time.Millisecond))
}

// Quota is how many faults of a kind hit targets of a role.
type Quota struct {
	Kind  Kind
	Role  Role
	Count int
	// Shortest and Longest bound For.
	Shortest, Longest time.Duration
	// Early has all of them in the first third: what they begin takes long to end.
	Early bool
}

// The part of the load's time in which faults happen. A dispatcher that starts again waits the whole grace of endpoints
// that were deleted, so that a late one prolongs the run.
const (
	firstFault = 0.05
	lastFault  = 0.85
	earlyFault = 0.30
)

// Draw makes the schedule of a seed: the same one for the same seed, quotas, targets and span. The faults of a quota are
// spread over the span, each somewhere within its part of it, and hit the role's targets in turn, in an order of chance.
func Draw(seed uint64, quotas []Quota, targets map[Role]int, span time.Duration) []Fault {
	chance := rand.New(rand.NewPCG(seed, 0x70726f626572))
	var faults []Fault
	for _, q := range quotas {
		first, last := firstFault, lastFault
		if q.Early {
			last = earlyFault
		}
		from, width := scale(span, first), scale(span, last-first)
		order := chance.Perm(targets[q.Role])
		for i := range q.Count {
			if len(order) == 0 {
				break
			}
			part := (float64(i) + chance.Float64()) / float64(q.Count)
			faults = append(faults, Fault{
				At: from + scale(width, part), Kind: q.Kind, Target: Target{q.Role, order[i%len(order)]},
				For: q.Shortest + scale(q.Longest-q.Shortest, chance.Float64()),
			})
		}
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// CountOf is how many faults of a kind a schedule has, by role.
func CountOf(faults []Fault, kind Kind) map[Role]int {
	counts := map[Role]int{}
	for _, f := range faults {
		if f.Kind == kind {
			counts[f.Target.Role]++
		}
	}
	return counts
}
