import Postgres

/// What is to be done to which object. Filled from differences, then completed with what stands in the way.
struct MendPlan {
    let mender: Mender
    /// Missing: to be made, with all that belongs to them.
    var creates: Set<ObjectIdentity> = []
    /// Unexpected: to be dropped.
    var drops: Set<ObjectIdentity> = []
    /// Of those, the ones that must go before anything else.
    var earlyDrops: Set<ObjectIdentity> = []
    /// To be dropped first and made again.
    var recreates: Set<ObjectIdentity> = []
    /// Types to be made again under the columns that have them.
    var retypes: Set<ObjectIdentity> = []
    /// Tables to be made again, with their rows.
    var rebuilds: Set<ObjectIdentity> = []
    /// Columns whose default stands in the way for a while.
    var defaultsAway: Set<ObjectIdentity> = []
    /// Columns that change their type.
    private var typedAnew: Set<ObjectIdentity> = []
    var alterations: [ObjectIdentity: [String]] = [:]
    var afterwards: [ObjectIdentity: [String]] = [:]

    init(mender: Mender) { self.mender = mender }

    // MARK: Taking differences

    mutating func take(_ differences: [Difference]) {
        for difference in differences {
            switch difference.sort {
            case .missing: takeMissing(difference.object)
            case .unexpected: drops.insert(difference.object)
            case .changed: break
            }
        }
        let changed = differences.filter { $0.sort == .changed }.sorted { rank($0) < rank($1) }
        for difference in changed { takeChange(difference) }
        for identity in drops where mustGoEarly(identity) { earlyDrops.insert(identity) }
    }

    /// NOT NULL comes before an identity and goes after it; a default has to fit the new type. A partition that is
    /// attached again has its parent's triggers again.
    private func rank(_ difference: Difference) -> Int {
        switch difference.property {
        case "disabled inherited triggers": 4
        case "not null": difference.expected == nil ? 3 : 0
        case "type": 1
        default: 2
        }
    }

    private mutating func takeMissing(_ identity: ObjectIdentity) {
        if identity.kind == .column, let table = mender.expected.object(at: identity.quotedParent), !comesLast(identity)
        {
            // ADD COLUMN adds at the end; only a new table has it in its place.
            rebuilds.insert(table)
        } else {
            creates.formUnion(Mender.whole(identity, mender.expectedParts))
        }
    }

    private func comesLast(_ column: ObjectIdentity) -> Bool {
        guard let table = mender.expected.object(at: column.quotedParent),
            let order = mender.expected[table]?["column order"], let there = mender.found[table]?["column order"]
        else { return true }
        let names = QualifiedName.exactList(order)
        let present = Set(QualifiedName.exactList(there))
        guard let position = names.firstIndex(of: ExactText(column.quotedName)) else { return true }
        return !names[position...].contains(where: present.contains)
    }

    private mutating func takeChange(_ difference: Difference) {
        let identity = difference.object
        guard let property = difference.property, let new = mender.expected.objectOrImplicitColumn(identity),
            let old = mender.found.objectOrImplicitColumn(identity)
        else { return }
        switch mender.alterations.alteration(of: property, from: old, to: new) {
        case .statements(let statements): alter(identity, statements)
        case .withDependentsAway(let statements):
            alter(identity, statements)
            typedAnew.insert(identity)
        case .afterwards(let statements): afterwards[identity, default: []] += statements
        case .recreate: recreates.insert(identity)
        case .retype: retypes.insert(identity)
        case .rebuild: if let table = table(of: identity) { rebuilds.insert(table) }
        }
    }

    /// The same statement may serve several properties.
    private mutating func alter(_ identity: ObjectIdentity, _ statements: [String]) {
        for sql in statements where alterations[identity]?.contains(sql) != true {
            alterations[identity, default: []].append(sql)
        }
    }

    private func table(of identity: ObjectIdentity) -> ObjectIdentity? {
        identity.kind.isTable ? identity : mender.found.object(at: identity.quotedParent)
    }

    /// What holds no data goes first; so does what has the name that something else is to get.
    private func mustGoEarly(_ identity: ObjectIdentity) -> Bool {
        if identity.kind.isLeaf { return true }
        return creates.contains { other in
            ExactText.same(other.schema, identity.schema) && ExactText.same(other.parent, identity.parent)
                && ExactText.same(other.name, identity.name)
                && (other.kind.isInRelationNamespace && identity.kind.isInRelationNamespace
                    || other.kind.isType && identity.kind.isType || other.kind.isRoutine && identity.kind.isRoutine)
        }
    }

    // MARK: Clearing the way

    /// Finds all objects that stand in the way, and those that stand in the way of removing them.
    mutating func clearTheWay() {
        for table in rebuilds { includePartitions(of: table) }
        var waiting = Array(recreates) + Array(retypes) + Array(rebuilds) + Array(typedAnew) + Array(earlyDrops)
        var seen: Set<ObjectIdentity> = []
        while let next = waiting.popLast() {
            guard seen.insert(next).inserted else { continue }
            waiting += clear(next)
        }
        // What is made again as a whole needs no change by itself.
        for identity in recreates.union(retypes) {
            alterations[identity] = nil
            for part in mender.expectedParts[identity] ?? [] where part.kind == .column { alterations[part] = nil }
            for part in mender.foundParts[identity] ?? [] where part.kind == .column { alterations[part] = nil }
        }
        for table in rebuilds {
            for part in Mender.whole(table, mender.foundParts) + Mender.whole(table, mender.expectedParts) {
                if part.kind == .sequence, mender.expected[part]?["identity of"] == nil { continue }
                alterations[part] = nil
                afterwards[part] = nil
                // What has a name in the schema must not be in the way of the new table's.
                guard part.kind == .column || part.kind.isTable || part.kind == .sequence else { continue }
                drops.remove(part)
                earlyDrops.remove(part)
            }
        }
    }

    private mutating func includePartitions(of table: ObjectIdentity) {
        for catalog in [mender.found, mender.expected] {
            for object in catalog.objects.values where ExactText.same(object["partition of"], table.path) {
                if rebuilds.insert(object.identity).inserted { includePartitions(of: object.identity) }
            }
        }
    }

    /// Removes the dependents of one object, and returns the objects that this affects in turn.
    private mutating func clear(_ identity: ObjectIdentity) -> [ObjectIdentity] {
        var result: [ObjectIdentity] = []
        if rebuilds.contains(identity) {
            for part in Mender.whole(identity, mender.foundParts).dropFirst() {
                if part.kind == .column {
                    result += dependentsOutside(of: part, table: identity)
                } else if part.kind != .sequence {
                    result += takeAway(part)
                }
            }
            return result + dependentsOutside(of: identity, table: identity)
        }
        let isTypedAnew = typedAnew.contains(identity)
        for dependent in mender.dependents[identity] ?? [] {
            // Indexes and constraints follow a column that changes its type, unless the type itself goes.
            if isTypedAnew, !isRetyped(identity), [.constraint, .index, .sequence].contains(dependent.kind) {
                keepStatisticsTargets(of: dependent)
                continue
            }
            result += concern(dependent, because: identity)
        }
        if isTypedAnew { result += childColumns(of: identity) }
        return result
    }

    /// The server rebuilds the indexes of such a column and loses their statistics targets.
    private mutating func keepStatisticsTargets(of index: ObjectIdentity) {
        guard let object = mender.expected[index], object["statistics targets"] != nil else { return }
        afterwards[index] = LeafDefinition(object: object).statisticsTargets
    }

    private mutating func dependentsOutside(of identity: ObjectIdentity, table: ObjectIdentity) -> [ObjectIdentity] {
        var result: [ObjectIdentity] = []
        for dependent in mender.dependents[identity] ?? [] where self.table(of: dependent) != table {
            if dependent.kind.isTable || dependent.kind == .sequence { continue }
            result += concern(dependent, because: identity)
        }
        return result
    }

    private mutating func concern(_ dependent: ObjectIdentity, because identity: ObjectIdentity) -> [ObjectIdentity] {
        switch dependent.kind {
        case .column:
            guard let column = mender.found[dependent] else { return [] }
            if retypes.contains(identity) {
                typedAnew.insert(dependent)
                return [dependent]
            }
            if column["generated"] != nil {
                guard let table = table(of: dependent), rebuilds.insert(table).inserted else { return [] }
                includePartitions(of: table)
                return [table]
            }
            if column["default"] != nil { defaultsAway.insert(dependent) }
            return []
        case .table, .foreignTable, .sequence, .extension, .schema: return []
        case .domainConstraint where retypes.contains(identity): return []
        case .enumType, .domain, .compositeType, .rangeType:
            return retypes.insert(dependent).inserted ? [dependent] : []
        case .collation, .domainConstraint, .textSearchDictionary, .textSearchConfiguration, .foreignServer, .function,
            .procedure, .aggregate, .operation, .cast, .constraint, .index, .view, .materializedView, .rule, .trigger,
            .policy, .statistics, .eventTrigger, .publication, .defaultPrivileges:
            return takeAway(dependent)
        }
    }

    private mutating func takeAway(_ identity: ObjectIdentity) -> [ObjectIdentity] {
        if mender.expected[identity] == nil {
            drops.insert(identity)
            return earlyDrops.insert(identity).inserted ? [identity] : []
        }
        return recreates.insert(identity).inserted ? [identity] : []
    }

    private func isRetyped(_ column: ObjectIdentity) -> Bool {
        mender.found[column]?.dependencies.contains(where: retypes.contains) ?? false
    }

    /// The columns of children and partitions that change with it.
    private mutating func childColumns(of column: ObjectIdentity) -> [ObjectIdentity] {
        var result: [ObjectIdentity] = []
        for object in mender.found.objects.values where object.identity.kind.isTable {
            let parents = QualifiedName.exactList(object["partition of"] ?? object["inherits"])
            guard parents.contains(ExactText(column.quotedParent)) else { continue }
            let child = ObjectIdentity(
                .column, schema: object.identity.schema, parent: object.identity.name, column.name)
            if mender.found[child] != nil, typedAnew.insert(child).inserted { result.append(child) }
        }
        return result
    }
}
