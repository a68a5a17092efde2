// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func orderToProto(o *delivery.Order) *controlpb.RedeliveryOrder {
	return &controlpb.RedeliveryOrder{
		Uid: o.ID, Name: o.Name, Namespace: o.Ref.Namespace, EndpointName: o.Ref.Name,
		Since: timeToProto(o.Since), Until: timeToProto(o.Until), CallIds: o.CallIDs, EventIds: o.EventIDs,
		Limit: int32(o.Limit), DryRun: o.DryRun,
	}
}

func orderFromProto(m *controlpb.RedeliveryOrder) delivery.Order {
	return delivery.Order{
		ID: m.GetUid(), Name: m.GetName(), Ref: endpoint.Ref{Namespace: m.GetNamespace(), Name: m.GetEndpointName()},
		Since: timeFromProto(m.GetSince()), Until: timeFromProto(m.GetUntil()), CallIDs: m.GetCallIds(), EventIDs: m.GetEventIds(),
		Limit: int(m.GetLimit()), DryRun: m.GetDryRun(),
	}
}

func redeliveredToProto(uid string, r delivery.Redelivered, failed bool) *controlpb.RedeliveryResult {
	return &controlpb.RedeliveryResult{Uid: uid, Matched: int64(r.Matched), Moved: int64(r.Moved), ShareFull: r.ShareFull, Failed: failed}
}

// redeliveredFromProto bounds what a dispatcher says: the sums of all end up in a status.
func redeliveredFromProto(m *controlpb.RedeliveryResult) delivery.Redelivered {
	return delivery.Redelivered{Matched: bounded(m.GetMatched()), Moved: bounded(m.GetMoved()), ShareFull: m.GetShareFull()}
}

// maxMatched is more than a queue holds.
const maxMatched = 1 << 40

func bounded(n int64) int { return int(min(max(n, 0), maxMatched)) }
