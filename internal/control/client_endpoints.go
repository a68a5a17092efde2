// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

var errEndpointWithoutName = errors.New("the manager sent an endpoint without name or UID")

// stream runs one stream of endpoints to its end, and says whether a list was taken on it.
func (c *Client) stream(ctx context.Context) (took bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.service.Endpoints(ctx)
	if err != nil {
		return false, err
	}
	list := newWorkingList(c.o.Known())
	hello := &controlpb.Hello{QueueId: c.o.QueueID, Version: c.o.Version, Known: list.revisions()}
	if err := send(stream, &controlpb.EndpointsRequest{Message: &controlpb.EndpointsRequest_Hello{Hello: hello}}); err != nil {
		return false, err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return took, err
		}
		if err := list.change(response); err != nil {
			return took, err
		}
		if !response.GetComplete() {
			continue // a part of the first list changes nothing in force
		}
		if err := c.apply(list); err != nil {
			return took, err
		}
		c.tellGateway(response.GetGateway())
		took = true
		c.setConnected(true)
		taken := &controlpb.EndpointsRequest_Taken{Taken: response.GetSequence()}
		if err := send(stream, &controlpb.EndpointsRequest{Message: taken}); err != nil {
			return took, err
		}
	}
}

func (c *Client) tellGateway(address string) {
	if c.o.OnGateway == nil || c.gateway != nil && *c.gateway == address {
		return
	}
	c.gateway = &address
	c.o.OnGateway(address)
}

// send leaves it to Recv to say why a stream has ended: Send says EOF only.
func send(stream controlpb.Control_EndpointsClient, m *controlpb.EndpointsRequest) error {
	if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (c *Client) apply(list *workingList) error {
	if list.changed || !c.applied {
		c.applied = false // the list may be in force all the same, so that it is not seen as changed the next time
		if err := c.o.Apply(list.all()); err != nil {
			return fmt.Errorf("put endpoints in force: %w", err)
		}
	}
	c.applied, list.changed = true, false
	c.metrics.endpoints.Set(float64(len(list.byRef)))
	return nil
}

// workingList becomes the list to put in force. It is keyed by namespace and name: a new object of a name takes the old
// one's place, and what the old one's UID is told later does not touch it.
type workingList struct {
	byRef map[endpoint.Ref]*endpoint.Endpoint
	byUID map[string]endpoint.Ref
	// changed since it was put in force.
	changed bool
}

func newWorkingList(known []*endpoint.Endpoint) *workingList {
	l := &workingList{byRef: map[endpoint.Ref]*endpoint.Endpoint{}, byUID: map[string]endpoint.Ref{}}
	for _, p := range known {
		l.put(p)
	}
	l.changed = false
	return l
}

func (l *workingList) put(p *endpoint.Endpoint) {
	if old := l.byRef[p.Ref]; old != nil {
		delete(l.byUID, old.UID)
	}
	l.byRef[p.Ref], l.byUID[p.UID], l.changed = p, p.Ref, true
}

func (l *workingList) change(m *controlpb.EndpointsResponse) error {
	for _, e := range m.GetEndpoints() {
		if e.GetName() == "" || e.GetUid() == "" {
			return errEndpointWithoutName
		}
		l.put(endpointFromProto(e))
	}
	for _, uid := range m.GetRemovedUids() {
		if ref, ok := l.byUID[uid]; ok {
			delete(l.byRef, ref)
			delete(l.byUID, uid)
			l.changed = true
		}
	}
	return nil
}

func (l *workingList) revisions() map[string]string {
	known := make(map[string]string, len(l.byRef))
	for _, p := range l.byRef {
		known[p.UID] = p.Revision
	}
	return known
}

func (l *workingList) all() []*endpoint.Endpoint {
	all := make([]*endpoint.Endpoint, 0, len(l.byRef))
	for _, p := range l.byRef {
		all = append(all, p)
	}
	return all
}
