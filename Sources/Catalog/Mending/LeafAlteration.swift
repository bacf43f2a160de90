import Postgres
import SQL

/// Decides how to change a property of an object that stores no data.
struct LeafAlteration {
    let old: CatalogObject
    let new: CatalogObject

    func alteration(of property: String) -> Alteration {
        let table = new.identity.quotedParent
        let name = new.identity.quotedName
        switch (new.identity.kind, property) {
        case (.constraint, "not valid") where new[property] == nil:
            return .statements(["ALTER TABLE \(table) VALIDATE CONSTRAINT \(name)"])
        case (.domainConstraint, "not valid") where new[property] == nil:
            return .statements(["ALTER DOMAIN \(table) VALIDATE CONSTRAINT \(name)"])
        case (.constraint, "deferrable") where new["type"] == "foreign key":
            let word = new[property].map { "DEFERRABLE \($0.uppercased())" } ?? "NOT DEFERRABLE"
            return .statements(["ALTER TABLE \(table) ALTER CONSTRAINT \(name) \(word)"])
        case (.constraint, "enforcing triggers"): return .afterwards([enforcement])
        case (.constraint, "clustered"), (.index, "clustered"):
            let word = new[property] == nil ? "SET WITHOUT CLUSTER" : "CLUSTER ON \(name)"
            return .statements(["ALTER TABLE \(table) \(word)"])
        case (.constraint, "options"), (.index, "options"):
            return .statements(OptionList.change(old[property], new[property]).map { "ALTER INDEX \(index) \($0)" })
        case (.constraint, "tablespace"), (.index, "tablespace"):
            return .statements([
                "ALTER INDEX \(index) SET TABLESPACE \(PlainName.quoted(new[property] ?? "pg_default"))"
            ])
        case (.index, "statistics targets"): return .statements(statisticsTargets)
        case (.trigger, "enabled"), (.rule, "enabled"), (.eventTrigger, "enabled"):
            return .statements([LeafDefinition(object: new).setState(new[property])])
        case (.statistics, "target"):
            return .statements(["ALTER STATISTICS \(new.identity.path) SET STATISTICS \(new[property] ?? "-1")"])
        case (.policy, "roles"):
            return .statements(["ALTER POLICY \(name) ON \(table) TO \(new[property] ?? "PUBLIC")"])
        // ALTER POLICY replaces an expression in place, so that the rows are always protected. It cannot remove an
        // expression.
        case (.policy, "using") where old[property] != nil && new[property] != nil:
            return .statements(["ALTER POLICY \(name) ON \(table) USING (\(new[property] ?? ""))"])
        case (.policy, "with check") where old[property] != nil && new[property] != nil:
            return .statements(["ALTER POLICY \(name) ON \(table) WITH CHECK (\(new[property] ?? ""))"])
        case (.publication, "publish"), (.publication, "publish via partition root"):
            return .statements(["ALTER PUBLICATION \(name) SET \(LeafDefinition(object: new).publicationOptions)"])
        case (.publication, "publish generated columns"):
            let value = new[property] ?? "none"
            return .statements(["ALTER PUBLICATION \(name) SET (publish_generated_columns = \(value))"])
        case (.publication, "tables") where old["all tables"] == nil && new["all tables"] == nil,
            (.publication, "schemas") where old["all tables"] == nil && new["all tables"] == nil:
            guard let targets = LeafDefinition(object: new).publicationTargets else { return .recreate }
            return .statements(["ALTER PUBLICATION \(name) SET \(targets)"])
        // All leaf objects can be dropped and created again.
        default: return .recreate
        }
    }

    private var index: String {
        ([new.identity.schema, new.identity.name] as [String?]).compactMap { $0.map(PlainName.quoted) }
            .joined(separator: ".")
    }

    private var statisticsTargets: [String] {
        let (before, after) = (
            LeafDefinition.statisticsTargets(old["statistics targets"]),
            LeafDefinition.statisticsTargets(new["statistics targets"])
        )
        return Set(before.keys).union(after.keys).sorted().filter { before[$0] != after[$0] }.map {
            "ALTER INDEX \(index) ALTER COLUMN \($0) SET STATISTICS \(after[$0] ?? "-1")"
        }
    }

    /// A DO statement that sets the state of a foreign key's triggers. The names of these triggers are different in
    /// each database, so the statement looks them up when it runs.
    private var enforcement: String {
        let verb =
            switch new["enforcing triggers"] {
            case "off": "DISABLE"
            case "on replica": "ENABLE REPLICA"
            case "always": "ENABLE ALWAYS"
            default: "ENABLE"
            }
        let body = """
            DECLARE enforcing record; BEGIN
                FOR enforcing IN SELECT t.tgrelid::regclass AS relation, t.tgname FROM pg_trigger t
                    JOIN pg_constraint c ON c.oid = t.tgconstraint
                    WHERE c.conrelid = \(quoteLiteral(new.identity.quotedParent))::regclass
                        AND c.conname = \(quoteLiteral(new.identity.name))
                LOOP
                    EXECUTE format('ALTER TABLE %s \(verb) TRIGGER %I', enforcing.relation, enforcing.tgname);
                END LOOP;
            END
            """
        return "DO \(quoteDollar(body))"
    }
}
