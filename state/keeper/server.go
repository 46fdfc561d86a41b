package keeper

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"orrery/state"
)

// newerServer says by which server a snapshot was made, where that is newer than what hosts the component, and empty
// text otherwise. Most such snapshots can be restored all the same, so that this is a warning, and the reason if one cannot.
func (k *Keeper) newerServer(ctx context.Context, rec record, target state.Target, id state.SnapshotID) string {
	v, ok := k.modules[rec.Component.Module].(state.Versioner)
	if !ok {
		return ""
	}
	recorded := k.recordedServer(ctx, rec, id)
	if recorded == "" {
		return ""
	}
	here, err := v.Version(ctx, target)
	if err != nil || !newer(recorded, here) {
		return "" // the restore itself says what is wrong with a server that does not answer
	}
	return fmt.Sprintf("the snapshot is of %s, which is newer than this server, %s (restore it into a server of that version or a newer one)", recorded, here)
}

// recordedServer is what a generation of the component, or of what it is made a copy of, says.
func (k *Keeper) recordedServer(ctx context.Context, rec record, id state.SnapshotID) string {
	refs := []state.Ref{rec.ref()}
	if rec.Forking != nil {
		refs = append(refs, *rec.Forking)
	}
	for _, ref := range refs {
		generations, err := k.config.Store.Generations(ctx, ref)
		if err != nil {
			return ""
		}
		for _, g := range generations {
			if g.Snapshot == id && g.Server != "" {
				return g.Server
			}
		}
	}
	return ""
}

// newer compares versions such as "PostgreSQL 15.18" by all but their last number, which counts corrections.
func newer(a, b string) bool {
	nameA, versionA, _ := strings.Cut(a, " ")
	nameB, versionB, _ := strings.Cut(b, " ")
	if nameA != nameB {
		return false
	}
	partsA, partsB := strings.Split(versionA, "."), strings.Split(versionB, ".")
	for i := range min(max(len(partsA)-1, 1), len(partsB)) {
		x, errA := strconv.Atoi(partsA[i])
		y, errB := strconv.Atoi(partsB[i])
		if errA != nil || errB != nil || x != y {
			return errA == nil && errB == nil && x > y
		}
	}
	return false
}
