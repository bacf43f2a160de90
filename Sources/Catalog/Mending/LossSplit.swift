import SQL

/// Separates the differences that can be mended with statements that may be run from the others. A statement that loses
/// rows or values may not be run, for instance.
struct LossSplit {
    let mender: Mender
    /// Returns whether a statement may be run.
    let isRun: (MendScript.Statement) -> Bool

    /// The objects of the differences that are not mended. They remain as they were found.
    private struct Remaining {
        var missing: Set<ObjectIdentity> = []
        var unexpected: Set<ObjectIdentity> = []
        var changed: Set<ObjectIdentity> = []

        mutating func add(_ difference: Difference, _ mender: Mender) {
            let object = difference.object
            switch difference.sort {
            case .missing: missing.formUnion(Mender.whole(object, mender.expectedParts))
            case .unexpected: unexpected.formUnion(Mender.whole(object, mender.foundParts))
            // Another order of columns prevents no other change.
            case .changed: if difference.property != "column order" { changed.insert(object) }
            }
        }
    }

    /// Returns the differences that are mended, and those that are not because their mend loses something or requires
    /// the mend of such a difference.
    func split(_ differences: [Difference]) -> (kept: [Difference], withheld: [Difference]) {
        var kept: [(difference: Difference, plan: MendPlan)] = []
        var withheld: [Difference] = []
        var remaining = Remaining()
        for difference in differences {
            let plan = mender.plan(for: [difference])
            if isWithheld(plan) {
                withheld.append(difference)
                remaining.add(difference, mender)
            } else {
                kept.append((difference, plan))
            }
        }
        while true {
            let added = kept.filter { requires($0.plan, $0.difference, remaining) }.map(\.difference)
            if added.isEmpty { break }
            for difference in added { remaining.add(difference, mender) }
            withheld += added
            kept.removeAll { added.contains($0.difference) }
        }
        // Changes that lose nothing on their own may do so together, for instance if each requires a table to be
        // created again.
        if isWithheld(mender.plan(for: kept.map(\.difference))) { return ([], differences) }
        return (kept.map(\.difference), differences.filter(withheld.contains))
    }

    private func isWithheld(_ plan: MendPlan) -> Bool {
        !MendWriter(plan: plan).script().statements.allSatisfy(isRun)
    }

    /// Returns whether a plan fails as long as the other differences remain.
    private func requires(_ plan: MendPlan, _ difference: Difference, _ remaining: Remaining) -> Bool {
        if difference.object.kind == .column, remaining.changed.contains(difference.object) { return true }
        let made = plan.creates.union(plan.recreates).union(plan.retypes).union(plan.rebuilds)
            .union(plan.alterations.keys).union(plan.afterwards.keys)
        for identity in made {
            let needs = mender.needs[identity] ?? []
            if needs.contains(where: { remaining.missing.contains($0) || remaining.changed.contains($0) }) {
                return true
            }
            if plan.creates.contains(identity), remaining.unexpected.contains(where: identity.excludes) { return true }
        }
        let gone = plan.drops.union(plan.recreates).union(plan.retypes)
        return gone.contains { identity in
            Mender.whole(identity, mender.foundParts).contains { part in
                (mender.dependents[part] ?? []).contains(where: remaining.unexpected.contains)
            }
        }
    }
}
