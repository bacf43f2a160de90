import Postgres
import SQL

/// Writes a plan as statements in an order that can be run: removes obstacles, creates and changes objects in the order
/// of their dependencies, and drops the remaining objects.
struct MendWriter {
    let plan: MendPlan
    private let expected: SchemaCatalog
    private let found: SchemaCatalog
    private let definition: ObjectDefinition
    private let foundDefinition: ObjectDefinition
    private var rebuilding: TableRebuild {
        TableRebuild(expected: expected, found: found, tables: plan.rebuilds, relations: definition.relations) {
            column, spelled in
            // While the type of a column is created again, the column stores its values in another type. The
            // values are converted back when the rows are copied.
            guard let type = found[column]?.dependencies.first(where: plan.retypes.contains) else { return nil }
            return unpacked(column.quotedName, type, as: spelled)
        }
    }

    init(plan: MendPlan) {
        self.plan = plan
        expected = plan.mender.expected
        found = plan.mender.found
        definition = plan.mender.definition
        foundDefinition = plan.mender.foundDefinition
    }

    func script() -> MendScript {
        var script = MendScript()
        takeAway(&script)
        build(&script)
        let late = plan.drops.subtracting(plan.earlyDrops)
        for identity in dropOrder(late) { drop(identity, &script) }
        finish(&script)
        script.isAtomic = isAtomic(script)
        script.statements = script.statements.map(marked)
        // A new label of an enum can be used only after the transaction that adds it.
        script.statements = script.statements.filter(\.comesFirst) + script.statements.filter { !$0.comesFirst }
        return script
    }

    /// Returns whether a statement that fails must undo the earlier ones: rows would be out of sight, or something
    /// would be taken away and not made again.
    private func isAtomic(_ script: MendScript) -> Bool {
        let hidesRows =
            !plan.rebuilds.isEmpty || !plan.retypes.isEmpty
            || script.statements.contains { $0.sql.contains(" DETACH PARTITION ") }
        let takesAway =
            !plan.recreates.isEmpty || !plan.defaultsAway.isEmpty || plan.alterations.values.contains { $0.count > 1 }
        // Statements on subscriptions cannot run in a transaction if there is a replication slot.
        return hidesRows || takesAway && !script.statements.contains { $0.sql.contains(" SUBSCRIPTION ") }
    }

    private func marked(_ statement: MendScript.Statement) -> MendScript.Statement {
        MendScript.Statement(
            sql: statement.sql, note: statement.note, loss: statement.loss ?? plan.losses[statement.sql],
            isIncomplete: Self.isIncomplete(statement.sql), comesFirst: plan.labels.contains(statement.sql))
    }

    /// Returns whether a statement contains a hidden value.
    private static func isIncomplete(_ sql: String) -> Bool {
        let kinds = ["SERVER", "USER MAPPING", "FOREIGN", "SUBSCRIPTION"]
        return kinds.contains { sql.hasPrefix("CREATE \($0)") || sql.hasPrefix("ALTER \($0)") }
            && (sql.contains(Secrets.mask) || sql.contains(Secrets.unreadable))
    }

    // MARK: Removing obstacles

    private func takeAway(_ script: inout MendScript) {
        for column in plan.defaultsAway.sorted() {
            script.add("ALTER TABLE \(column.quotedParent) ALTER COLUMN \(column.quotedName) DROP DEFAULT")
        }
        let leaving = plan.recreates.filter { found[$0] != nil }.union(plan.earlyDrops)
        for identity in dropOrder(leaving) { drop(identity, &script) }
        let types = dropOrder(plan.retypes)
        for type in types {
            // The columns of tables that are renamed and copied later are converted, too.
            for column in columns(of: type) {
                let alter = "ALTER TABLE \(column.identity.quotedParent) ALTER COLUMN \(column.identity.quotedName)"
                if column["default"] != nil { script.add("\(alter) DROP DEFAULT") }
                script.add(
                    "\(alter) TYPE \(carrier(of: type, column)) USING \(packed(column.identity.quotedName, type))",
                    note: "rewrites the table; the change back rewrites it a second time")
            }
        }
        for type in types { script.add("DROP \(type.reference)") }
        script.statements += rebuilding.setAside
    }

    /// Returns the type in which a column stores its values while its own type is created again: jsonb for composite
    /// types, because JSON contains the names of the attributes; text for other types.
    private func carrier(of type: ObjectIdentity, _ column: CatalogObject) -> String {
        type.kind == .compositeType ? "jsonb" : "text"
    }

    private func packed(_ column: String, _ type: ObjectIdentity) -> String {
        type.kind == .compositeType
            ? "to_jsonb(\(column))" : "CASE WHEN \(column) IS NOT NULL THEN format('%s', \(column)) END"
    }

    private func unpacked(_ column: String, _ type: ObjectIdentity, as spelled: String) -> String {
        type.kind == .compositeType
            ? "CASE WHEN \(column) IS NOT NULL THEN jsonb_populate_record(NULL::\(spelled), \(column)) END"
            : "\(column)::\(spelled)"
    }

    /// Returns the columns that have the type `type`. Of a column and the columns that inherit it, returns only the
    /// topmost, because a change of that column also changes the columns of child tables and partitions.
    private func columns(of type: ObjectIdentity) -> [CatalogObject] {
        found.sorted.filter { object in
            guard object.identity.kind == .column, object.dependencies.contains(type) else { return false }
            let table = found.object(at: object.identity.quotedParent).flatMap { found[$0] }
            let parents = QualifiedName.list(table?["partition of"] ?? table?["inherits"] ?? "")
            return !parents.contains { found.object(at: "\($0).\(object.identity.quotedName)") != nil }
        }
    }

    private func drop(_ identity: ObjectIdentity, _ script: inout MendScript) {
        guard let object = found[identity] else { return }
        let loss = expected[identity] == nil ? DataLoss.ofDropping(object) : nil
        script.add(foundDefinition.drop(object), loss: loss)
    }

    /// Returns the objects in the order in which they are dropped: each object before the objects that it depends on.
    private func dropOrder(_ identities: Set<ObjectIdentity>) -> [ObjectIdentity] {
        DependencyOrder.sorted(identities) { identity in
            // An object is dropped with its parts, and before its schema. It may depend on a part of another object.
            let parts = identity.kind == .schema ? [identity] : Mender.whole(identity, plan.mender.foundParts)
            let needs = parts.flatMap { found[$0]?.dependencies ?? [] }.flatMap { need in
                [need] + (found[need].flatMap(found.container).map { [$0] } ?? [])
            }
            return (needs + (identity.schema.map { [ObjectIdentity(.schema, $0)] } ?? [])).filter { $0 != identity }
        }.reversed()
    }

    // MARK: Creating and changing objects

    private func build(_ script: inout MendScript) {
        var operations = plan.creates.union(plan.recreates.filter { expected[$0] != nil }).union(plan.retypes)
        operations.formUnion(plan.alterations.keys)
        operations.formUnion(plan.rebuilds)
        let made = plan.creates.union(plan.rebuilds)
        // The columns of a new table are created with the table. The sequence of an identity column is created with the
        // column.
        let lifted = { (identity: ObjectIdentity) -> ObjectIdentity in
            guard identity.kind == .column, let table = expected.object(at: identity.quotedParent),
                made.contains(table)
            else { return identity }
            return table
        }
        let isWithAnother = { (identity: ObjectIdentity) -> Bool in
            lifted(identity) != identity
                || identity.kind == .sequence && expected[identity]?["identity of"] != nil
                    && plan.alterations[identity] == nil
        }
        let order = DependencyOrder.sorted(operations.filter { !isWithAnother($0) }) { identity in
            let own = plan.mender.needs[identity] ?? []
            guard made.contains(identity), identity.kind.isTable else { return own.map(lifted) }
            let columns = (plan.mender.expectedParts[identity] ?? []).filter { $0.kind == .column }
            // A child table inherits the columns of its parents, so the columns of the parents must be changed first.
            let parents = own.filter(\.kind.isTable).flatMap { plan.mender.expectedParts[$0] ?? [] }
            return (own + parents + columns.flatMap { plan.mender.needs[$0] ?? [] }).map(lifted)
        }
        // Rows are copied after the last table is created, and before the constraints and triggers of the tables.
        let lastTable = order.lastIndex(where: plan.rebuilds.contains)
        for (number, identity) in order.enumerated() {
            make(identity, &script)
            if number == lastTable { script.statements += rebuilding.copy }
        }
    }

    private func make(_ identity: ObjectIdentity, _ script: inout MendScript) {
        guard let object = expected.objectOrImplicitColumn(identity) else { return }
        if plan.rebuilds.contains(identity) {
            let attaches =
                object["partition of"].map { parent in !plan.rebuilds.contains { ExactText.same($0.path, parent) } }
                ?? false
            script.add(definition.relations.table(object, attaches: attaches), note: nil)
            script.add(allAttributes(object))
        } else if plan.retypes.contains(identity) {
            script.add(definition.create(object))
            for part in plan.mender.expectedParts[identity] ?? [] {
                if let part = expected[part], !plan.recreates.contains(part.identity) {
                    // The columns of a composite type are created with the type.
                    if part.identity.kind != .column { script.add(definition.create(part)) }
                    script.add(definition.attributes(of: part))
                }
            }
            script.add(definition.attributes(of: object))
            restoreColumns(of: identity, &script)
        } else if plan.creates.contains(identity) || plan.recreates.contains(identity) {
            addMaking(object, &script)
            script.add(allAttributes(object))
        } else {
            script.add(plan.alterations[identity] ?? [])
        }
    }

    private func addMaking(_ object: CatalogObject, _ script: inout MendScript) {
        let isNewTable = expected.container(of: object).map(plan.creates.contains) ?? false
        let blocks = object.identity.kind == .index && !isNewTable
        for (number, sql) in definition.create(object).enumerated() {
            script.add(
                sql,
                note: blocks && number == 0
                    ? "blocks writes while the index is built; for a busy table, run this statement alone, with "
                        + "CONCURRENTLY"
                    : nil)
        }
    }

    private func allAttributes(_ object: CatalogObject) -> [String] {
        // The parts of a schema are created separately.
        object.identity.kind == .schema
            ? definition.attributes(of: object)
            : definition.allAttributes(of: object)
    }

    private func restoreColumns(of type: ObjectIdentity, _ script: inout MendScript) {
        for column in columns(of: type)
        where !plan.rebuilds.contains(where: { ExactText.same($0.path, column.identity.quotedParent) }) {
            guard let wanted = expected[column.identity], let spelled = wanted["type"] else { continue }
            let alter = "ALTER TABLE \(column.identity.quotedParent) ALTER COLUMN \(column.identity.quotedName)"
            let collation = wanted["collation"].map { " COLLATE \($0)" } ?? ""
            script.add(
                "\(alter) TYPE \(spelled)\(collation) USING "
                    + unpacked(column.identity.quotedName, type, as: spelled), loss: plan.retypeLosses[type])
            if let value = wanted["default"] { script.add("\(alter) SET DEFAULT \(value)") }
        }
    }

    // MARK: Final statements

    private func finish(_ script: inout MendScript) {
        for column in plan.defaultsAway.sorted() {
            guard let value = expected[column]?["default"] else { continue }
            script.add("ALTER TABLE \(column.quotedParent) ALTER COLUMN \(column.quotedName) SET DEFAULT \(value)")
        }
        for identity in plan.creates.union(plan.recreates).union(plan.rebuilds).sorted() { finish(identity, &script) }
        for table in plan.rebuilds.sorted() {
            for part in Mender.whole(table, plan.mender.expectedParts) where part.kind == .sequence {
                if !plan.creates.contains(part) { finish(part, &script) }
            }
        }
        for identity in plan.afterwards.keys.sorted() where !plan.creates.contains(identity) {
            script.add(plan.afterwards[identity] ?? [])
        }
    }

    /// Sets the properties of a new object that can be set only once all objects exist.
    private func finish(_ identity: ObjectIdentity, _ script: inout MendScript) {
        guard let object = expected[identity] else { return }
        let empty = CatalogObject(identity)
        let late: [String]
        switch identity.kind {
        case .table:
            late = [
                "row level security", "forced row level security", "replica identity", "disabled inherited triggers",
            ]
        case .sequence: late = ["owned by"]
        case .constraint: late = ["enforcing triggers"]
        case .schema, .extension, .collation, .enumType, .domain, .domainConstraint, .compositeType, .rangeType,
            .textSearchDictionary, .textSearchConfiguration, .foreignDataWrapper, .foreignServer, .userMapping,
            .function,
            .procedure, .aggregate, .operation, .cast, .foreignTable, .column, .index, .view, .materializedView, .rule,
            .trigger, .policy, .statistics, .eventTrigger, .publication, .subscription, .defaultPrivileges,
            .extensionMember:
            late = []
        }
        let planner = plan.mender.alterations
        for property in late where object[property] != nil {
            switch planner.alteration(of: property, from: empty, to: object) {
            case .statements(let statements), .afterwards(let statements): script.add(statements)
            default: break
            }
        }
    }
}

/// Sorts objects so that each object follows its dependencies.
enum DependencyOrder {
    /// Objects without a required order are sorted by kind, then by name. A cycle of dependencies is broken at an
    /// arbitrary point.
    static func sorted(
        _ identities: Set<ObjectIdentity>, needs: (ObjectIdentity) -> [ObjectIdentity]
    ) -> [ObjectIdentity] {
        var result: [ObjectIdentity] = []
        var seen: Set<ObjectIdentity> = []
        func visit(_ identity: ObjectIdentity) {
            guard seen.insert(identity).inserted else { return }
            for need in needs(identity).sorted(by: before) where identities.contains(need) { visit(need) }
            result.append(identity)
        }
        for identity in identities.sorted(by: before) { visit(identity) }
        return result
    }

    private static func before(_ left: ObjectIdentity, _ right: ObjectIdentity) -> Bool {
        left.kind == right.kind ? left < right : left.kind < right.kind
    }
}
