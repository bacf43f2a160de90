import Postgres
import SQL

/// The changes that are to be made to each object. First the changes for the differences are added. Then the objects
/// are added that must be removed or created again because of these changes.
struct MendPlan {
    let mender: Mender
    /// Missing objects with all their parts, to be created.
    var creates: Set<ObjectIdentity> = []
    /// Unexpected objects, to be dropped.
    var drops: Set<ObjectIdentity> = []
    /// The objects of `drops` that must be dropped before all other changes.
    var earlyDrops: Set<ObjectIdentity> = []
    /// Objects to be dropped first and created again.
    var recreates: Set<ObjectIdentity> = []
    /// Types to be created again while columns use them.
    var retypes: Set<ObjectIdentity> = []
    /// Tables to be created again, with a copy of their rows.
    var rebuilds: Set<ObjectIdentity> = []
    /// Columns whose default must be removed temporarily.
    var defaultsAway: Set<ObjectIdentity> = []
    /// Columns whose type changes.
    private var typedAnew: Set<ObjectIdentity> = []
    var alterations: [ObjectIdentity: [String]] = [:]
    var afterwards: [ObjectIdentity: [String]] = [:]
    /// Statements of `alterations` that add labels to enums.
    private(set) var labels: Set<String> = []
    /// What is lost by statements of `alterations`, by their text.
    private(set) var losses: [String: String] = [:]
    /// What is lost if a type is created again while columns use it.
    private(set) var retypeLosses: [ObjectIdentity: String] = [:]

    init(mender: Mender) { self.mender = mender }

    // MARK: Adding differences

    mutating func take(_ differences: [Difference]) {
        for difference in differences {
            switch difference.sort {
            case .missing: takeMissing(difference.object)
            case .unexpected: takeUnexpected(difference.object)
            case .changed: break
            }
        }
        detachDrops()
        let changed = differences.filter { $0.sort == .changed }.sorted { rank($0) < rank($1) }
        for difference in changed { takeChange(difference) }
        for identity in drops where mustGoEarly(identity) { earlyDrops.insert(identity) }
    }

    /// Returns the position of a difference in the order of changes. Only a column that is NOT NULL can be an identity
    /// column, so NOT NULL is set before the identity property is added, and dropped after the identity property is
    /// dropped, and a column gets a default only then. The type is changed before the default, because a default must
    /// fit the new type. A partition that is attached again inherits the triggers of its parent again, so inherited
    /// triggers are disabled last.
    private func rank(_ difference: Difference) -> Int {
        switch difference.property {
        case "disabled inherited triggers": 5
        case "not null": difference.expected == nil ? 4 : 0
        case "type": 1
        case "identity": difference.expected == nil ? 2 : 3
        default: 3
        }
    }

    private mutating func takeMissing(_ identity: ObjectIdentity) {
        if identity.kind == .column, let table = mender.expected.object(at: identity.quotedParent), !comesLast(identity)
        {
            // ADD COLUMN can only append a column. To put it at another position, the table must be created again.
            rebuilds.insert(table)
        } else {
            creates.formUnion(Mender.whole(identity, mender.expectedParts))
        }
    }

    /// Plans to drop an object. A schema is dropped after each object in it, so that objects of others that depend on
    /// one of them are not dropped, too.
    private mutating func takeUnexpected(_ identity: ObjectIdentity) {
        drops.insert(identity)
        if identity.kind == .foreignServer { drops.formUnion(mender.foundParts[identity] ?? []) }
        guard identity.kind == .schema else { return }
        // Default privileges are dropped with the schema.
        drops.formUnion((mender.foundParts[identity] ?? []).filter { $0.kind != .defaultPrivileges })
    }

    /// Plans to remove what connects the tables that are dropped with each other and with functions that are dropped:
    /// foreign keys, and defaults that call such functions. Otherwise none of them could be dropped first.
    private mutating func detachDrops() {
        let tables = drops.filter(\.kind.isTable)
        for table in tables {
            for part in mender.foundParts[table] ?? [] {
                guard let object = mender.found[part] else { continue }
                if object["type"] == "foreign key", let other = object["references"].flatMap(mender.found.object),
                    other != table, tables.contains(other)
                {
                    drops.insert(part)
                }
                if object["default"] != nil,
                    object.dependencies.contains(where: { $0.kind.isRoutine && drops.contains($0) })
                {
                    defaultsAway.insert(part)
                }
            }
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
        let loss = DataLoss.ofChanging(property, from: old, to: new)
        switch mender.alterations.alteration(of: property, from: old, to: new) {
        case .statements(let statements):
            alter(identity, statements, loss: loss)
            if identity.kind == .enumType, property == "labels" { labels.formUnion(statements) }
        case .withDependentsAway(let statements):
            alter(identity, statements, loss: loss)
            typedAnew.insert(identity)
        case .afterwards(let statements): afterwards[identity, default: []] += statements
        case .recreate: recreates.insert(identity)
        case .retype:
            retypes.insert(identity)
            if let loss { retypeLosses[identity] = loss }
        case .rebuild: if let table = table(of: identity) { rebuilds.insert(table) }
        }
    }

    /// Adds statements for an object. Several properties may require the same statement, which is added once.
    private mutating func alter(_ identity: ObjectIdentity, _ statements: [String], loss: String?) {
        for sql in statements {
            if alterations[identity]?.contains(sql) != true { alterations[identity, default: []].append(sql) }
            if let loss { losses[sql] = loss }
        }
    }

    private func table(of identity: ObjectIdentity) -> ObjectIdentity? {
        identity.kind.isTable ? identity : mender.found.object(at: identity.quotedParent)
    }

    /// Returns whether an object must be dropped first: it stores no data, or it has the name of an object that is to
    /// be created.
    private func mustGoEarly(_ identity: ObjectIdentity) -> Bool {
        identity.kind.isLeaf || creates.contains(where: identity.excludes)
    }

    // MARK: Removing obstacles

    /// Finds all objects that prevent a change and, recursively, all objects that prevent the removal of such an
    /// object. Plans to drop all these objects first, and to create those that are expected again afterwards.
    mutating func clearTheWay() {
        for table in rebuilds { includePartitions(of: table) }
        var waiting = Array(recreates) + Array(retypes) + Array(rebuilds) + Array(typedAnew) + Array(earlyDrops)
        var seen: Set<ObjectIdentity> = []
        while let next = waiting.popLast() {
            guard seen.insert(next).inserted else { continue }
            waiting += clear(next)
        }
        // An object that is created again needs no separate alterations.
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
                // The old table is renamed and later dropped, together with its columns and sequences, so the columns
                // and sequences need not be dropped first. Other unexpected parts, such as indexes, must be dropped
                // first: they keep their names in the schema, and parts of the new table may need the same names.
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

    /// Plans the removal of the dependents of one object. Returns the objects whose own dependents must therefore be
    /// removed, too.
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
            // PostgreSQL updates indexes and constraints when the type of a column changes, unless the type is dropped.
            if isTypedAnew, !isRetyped(identity), [.constraint, .index, .sequence].contains(dependent.kind) {
                keepStatisticsTargets(of: dependent)
                continue
            }
            result += concern(dependent, because: identity)
        }
        if isTypedAnew { result += childColumns(of: identity) }
        return result
    }

    /// Plans to restore the statistics targets of an index. When the type of a column changes, the server rebuilds the
    /// indexes of the column without their statistics targets.
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
        case .collation, .domainConstraint, .textSearchDictionary, .textSearchConfiguration, .foreignDataWrapper,
            .foreignServer, .userMapping, .function, .procedure, .aggregate, .operation, .cast, .constraint, .index,
            .view,
            .materializedView, .rule, .trigger, .policy, .statistics, .eventTrigger, .publication, .subscription,
            .defaultPrivileges, .extensionMember:
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

    /// Returns the columns of child tables and partitions whose type changes together with that of `column`, and adds
    /// them to `typedAnew`.
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

extension ObjectIdentity {
    /// Returns whether another object cannot exist beside this object, because it would have the same name.
    func excludes(_ other: ObjectIdentity) -> Bool {
        ExactText.same(other.schema, schema) && ExactText.same(other.name, name)
            && (other.kind.isInRelationNamespace && kind.isInRelationNamespace
                || other.kind.isInTypeNamespace && kind.isInTypeNamespace || other.kind.isRoutine && kind.isRoutine)
    }
}
