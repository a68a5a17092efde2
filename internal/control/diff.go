// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"google.golang.org/protobuf/proto"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// difference is what leads from what a dispatcher has to a list.
type difference struct {
	changed []*endpoint.Endpoint
	removed []string
	// namespaces are those with a change, in order; between alone knows them.
	namespaces []string
}

func (d difference) empty() bool { return len(d.changed) == 0 && len(d.removed) == 0 }

// fromKnown compares with what a dispatcher said that it knows, UID to revision.
func fromKnown(known map[string]string, list []*endpoint.Endpoint) difference {
	var d difference
	present := make(map[string]bool, len(list))
	for _, p := range list {
		present[p.UID] = true
		if revision, ok := known[p.UID]; !ok || revision != p.Revision {
			d.changed = append(d.changed, p)
		}
	}
	for uid := range known {
		if !present[uid] {
			d.removed = append(d.removed, uid)
		}
	}
	return d
}

// between compares two views of the registry. Both are ordered by namespace and name and share what did not change, so
// that a change costs a comparison of pointers, for each of thousands of streams.
func between(before, after []*endpoint.Endpoint) difference {
	var d difference
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && precedes(before[0], after[0]):
			d.remove(before[0])
			before = before[1:]
		case len(before) == 0 || precedes(after[0], before[0]):
			d.change(after[0])
			after = after[1:]
		default:
			if before[0] != after[0] {
				d.change(after[0])
			}
			if before[0].UID != after[0].UID {
				d.remove(before[0])
			}
			before, after = before[1:], after[1:]
		}
	}
	return d
}

func precedes(a, b *endpoint.Endpoint) bool {
	if a.Namespace != b.Namespace {
		return a.Namespace < b.Namespace
	}
	return a.Name < b.Name
}

func (d *difference) change(p *endpoint.Endpoint) {
	d.changed = append(d.changed, p)
	d.touch(p.Namespace)
}

func (d *difference) remove(p *endpoint.Endpoint) {
	d.removed = append(d.removed, p.UID)
	d.touch(p.Namespace)
}

func (d *difference) touch(namespace string) {
	if n := len(d.namespaces); n == 0 || d.namespaces[n-1] != namespace {
		d.namespaces = append(d.namespaces, namespace)
	}
}

// chunks cuts a difference into responses of about maxBytes. What is removed comes last: a new object of the same name
// takes the place of the old one before that is named. The responses carry no sequence yet; complete is set on the last
// one, and on all when the dispatcher has a whole list already.
func (d difference) chunks(maxBytes int, haveList bool) []*controlpb.EndpointsResponse {
	chunk := &controlpb.EndpointsResponse{Complete: haveList}
	all := []*controlpb.EndpointsResponse{chunk}
	size := 0
	for _, p := range d.changed {
		m := endpointToProto(p)
		n := proto.Size(m)
		if n > maxEndpointBytes {
			m = withoutMaterial(m)
			n = proto.Size(m)
		}
		if size > 0 && size+n > maxBytes {
			chunk, size = &controlpb.EndpointsResponse{Complete: haveList}, 0
			all = append(all, chunk)
		}
		chunk.Endpoints = append(chunk.Endpoints, m)
		size += n
	}
	chunk.RemovedUids, chunk.Complete = d.removed, true
	return all
}

// withoutMaterial makes an endpoint that is too large for a message one whose deliveries wait: leaving it out would
// leave its events unmatched, and sending it would break the stream for its whole namespace.
func withoutMaterial(m *controlpb.Endpoint) *controlpb.Endpoint {
	m.Headers, m.Tls, m.Hold = nil, nil, string(endpoint.HoldUnresolved)
	return m
}
