// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

func endpointToProto(p *endpoint.Endpoint) *controlpb.Endpoint {
	m := &controlpb.Endpoint{
		Uid: p.UID, Name: p.Name, Namespace: p.Namespace, Generation: p.Generation,
		Revision: p.Revision, Incarnation: p.Incarnation,
		Url: p.URL, Agents: p.Agents, Hold: string(p.Hold),
		Timeout: durationpb.New(p.Timeout), SuccessCodes: p.SuccessCodes,
		Retry: &controlpb.Retry{
			MaxRetries:     int32(p.Retry.MaxRetries),
			InitialBackoff: durationpb.New(p.Retry.InitialBackoff),
			MaxBackoff:     durationpb.New(p.Retry.MaxBackoff),
			Deadline:       durationpb.New(p.Retry.Deadline),
		},
		SigningKeys: p.SigningKeys, MaxInFlight: int32(p.MaxInFlight),
		Tls: &controlpb.TLS{
			CaBundle: p.TLS.CABundle, ClientCert: p.TLS.ClientCert, ClientKey: p.TLS.ClientKey, ServerName: p.TLS.ServerName,
		},
	}
	for _, t := range p.Events {
		m.Events = append(m.Events, string(t))
	}
	for _, h := range p.Headers {
		m.Headers = append(m.Headers, &controlpb.Header{Name: h.Name, Value: h.Value})
	}
	return m
}

func endpointFromProto(m *controlpb.Endpoint) *endpoint.Endpoint {
	retry, tls := m.GetRetry(), m.GetTls()
	p := &endpoint.Endpoint{
		Ref: endpoint.Ref{Namespace: m.GetNamespace(), Name: m.GetName()},
		UID: m.GetUid(), Generation: m.GetGeneration(), Revision: m.GetRevision(), Incarnation: m.GetIncarnation(),
		URL: m.GetUrl(), Agents: m.GetAgents(), Hold: endpoint.Hold(m.GetHold()),
		Timeout: m.GetTimeout().AsDuration(), SuccessCodes: m.GetSuccessCodes(),
		Retry: endpoint.Retry{
			MaxRetries:     int(retry.GetMaxRetries()),
			InitialBackoff: retry.GetInitialBackoff().AsDuration(),
			MaxBackoff:     retry.GetMaxBackoff().AsDuration(),
			Deadline:       retry.GetDeadline().AsDuration(),
		},
		SigningKeys: m.GetSigningKeys(), MaxInFlight: int(m.GetMaxInFlight()),
		TLS: endpoint.TLS{
			CABundle: tls.GetCaBundle(), ClientCert: tls.GetClientCert(), ClientKey: tls.GetClientKey(),
			ServerName: tls.GetServerName(),
		},
	}
	for _, t := range m.GetEvents() {
		p.Events = append(p.Events, event.Type(t))
	}
	for _, h := range m.GetHeaders() {
		p.Headers = append(p.Headers, endpoint.Header{Name: h.GetName(), Value: h.GetValue()})
	}
	return p
}

// A zero time is no timestamp on the wire.

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromProto(m *timestamppb.Timestamp) time.Time {
	if m == nil {
		return time.Time{}
	}
	return m.AsTime()
}
