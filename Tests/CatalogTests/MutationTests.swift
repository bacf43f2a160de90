import Foundation
import Postgres
import SQL
import TestSupport
import Testing

@testable import Catalog

/// Every property that the catalog holds is changed once: the change is found, nothing else is, and the mend brings
/// back what was there.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct MutationTests {
    struct Group: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let mutations: [Mutation]

        static let all = [
            Group(testDescription: "presence", mutations: Mutation.presence),
            Group(testDescription: "tables", mutations: Mutation.tables),
            Group(testDescription: "columns", mutations: Mutation.columns),
            Group(testDescription: "constraints", mutations: Mutation.constraints),
            Group(testDescription: "indexes", mutations: Mutation.indexes),
            Group(testDescription: "relations", mutations: Mutation.relations),
            Group(testDescription: "routines", mutations: Mutation.routines),
            Group(testDescription: "types", mutations: Mutation.types),
            Group(testDescription: "database", mutations: Mutation.database),
            Group(testDescription: "kin", mutations: Mutation.kin),
            Group(testDescription: "newer servers", mutations: NewerZoo.mutations),
        ]
    }

    @Test(.database(Zoo.template), arguments: Group.all)
    func eachChangeIsFoundAndMended(_ group: Group) async throws {
        let mutations = try await ZooServer.current.possible(group.mutations)
        let (found, falseAlarms) = try await TestDatabase.current.connection { connection in
            var found = 0
            var falseAlarms = 0
            var expected = try await connection.with { try Zoo.reader.read(on: $0) }
            for mutation in mutations {
                let trial = try await connection.with { [expected] in
                    Trial(mutation: mutation, expected: expected).run(on: $0)
                }
                for problem in trial.problems { Issue.record("\(mutation): \(problem)") }
                found += trial.isFound ? 1 : 0
                falseAlarms += trial.falseAlarms
                // What could not be mended is not to trouble those that follow.
                if !trial.problems.isEmpty || mutation.kind == "extension" {
                    expected = try await connection.with { try Zoo.reader.read(on: $0) }
                }
            }
            return (found, falseAlarms)
        }
        let properties = Set(mutations.map { "\($0.kind) \($0.property)" }).count
        print(
            "mutations of \(group.testDescription): \(properties) properties, \(mutations.count) changes tried, "
                + "\(found) found, \(falseAlarms) false alarms")
    }

    /// One change, looked at and mended.
    struct Trial {
        let mutation: Mutation
        let expected: SchemaCatalog
        var problems: [String] = []
        var isFound = false
        var falseAlarms = 0

        init(mutation: Mutation, expected: SchemaCatalog) {
            self.mutation = mutation
            self.expected = expected
        }

        func run(on connection: isolated Connection) -> Trial {
            var result = self
            do {
                try result.perform(on: connection)
            } catch {
                result.problems.append("\(error)")
            }
            return result
        }

        private mutating func perform(on connection: isolated Connection) throws {
            try connection.execute("SET allow_system_table_mods = on; SET check_function_bodies = off")
            let rows = try MutationTests.countRows(on: connection)
            for statement in try SQLLexer.split(Array(mutation.sql.utf8)) {
                try connection.execute(mutation.sql.bytes(statement.range))
            }
            let found = try Zoo.reader.read(on: connection)
            let differences = MutationTests.compared(expected, found, [mutation])
            let shown = Set(differences.map { "\($0.object.kind.name) \($0.object): \($0.property ?? "present")" })
            let wanted = Set([mutation.description] + mutation.also)
            isFound = shown.contains(mutation.description)
            falseAlarms = shown.subtracting(wanted).count
            if shown != wanted { problems.append("found \(shown.sorted()), not \(wanted.sorted())") }
            let script = Mender(expected: expected, found: found, owner: "postgres").script(
                for: differences, lossy: true)
            do {
                for statement in script.statements { try connection.execute(statement.sql) }
            } catch {
                problems.append("the mend fails: \(error)\n\(script.text)")
                return
            }
            let mended = try Zoo.reader.read(on: connection)
            if mutation.property != "present", try MutationTests.countRows(on: connection) != rows {
                problems.append("rows are lost by\n\(script.text)")
            }
            let rest = MutationTests.compared(expected, mended, [mutation])
            if !rest.isEmpty {
                let lines = rest.map {
                    "\($0.object.kind.name) \($0.object) \($0.property ?? ""): \($0.expected ?? "-") / \($0.found ?? "-")"
                }
                problems.append("\(lines) are left after\n\(script.text)")
            }
        }
    }

    /// The members of an extension that is created again get the default privileges of the time.
    fileprivate static func compared(
        _ expected: SchemaCatalog, _ found: SchemaCatalog, _ mutations: [Mutation]
    ) -> [Difference] {
        let isCreatedAgain = mutations.contains { $0.kind == "extension" && $0.property != "in schema" }
        return CatalogDiff().differences(expected: expected, found: found).filter {
            !isCreatedAgain || $0.object.kind != .extensionMember
        }
    }

    fileprivate static func countRows(on connection: isolated Connection) throws -> [Int] {
        let tables = ["animals", "keepers", "visits", "other_keepers"]
        return try tables.compactMap {
            try connection.query("SELECT count(*) FROM zoo.\($0)").first?.get(0, as: Int.self)
        }
    }

    /// Several changes at once, mended by one script in one transaction.
    @Test(.database(Zoo.template), arguments: 0..<4)
    func manyChangesAreMendedTogether(_ part: Int) async throws {
        let rounds = ProcessInfo.processInfo.environment["REEVE_MEND_ROUNDS"].flatMap { Int($0) } ?? 10
        let mutations = try await ZooServer.current.possible(Mutation.all)
        try await TestDatabase.current.connection { connection in
            var expected = try await connection.with { try Zoo.reader.read(on: $0) }
            for round in 0..<rounds {
                var generator = SeededGenerator(UInt64(part * 1_000_000 + round + 1))
                let chosen = (0..<6).compactMap { _ in mutations.randomElement(using: &generator) }
                let problem = try await connection.with { [expected] in
                    try Self.mendTogether(chosen, expected: expected, on: $0)
                }
                if let problem { Issue.record("part \(part) round \(round): \(problem)") }
                if problem != nil || chosen.contains(where: { $0.kind == "extension" }) {
                    expected = try await connection.with { try Zoo.reader.read(on: $0) }
                }
            }
        }
    }

    private static func mendTogether(
        _ mutations: [Mutation], expected: SchemaCatalog, on connection: isolated Connection
    ) throws -> String? {
        try connection.execute("SET allow_system_table_mods = on; SET check_function_bodies = off")
        var done: [String] = []
        for mutation in mutations {
            // One may hinder another; whatever could be changed is.
            do {
                try connection.transaction {
                    for statement in try SQLLexer.split(Array(mutation.sql.utf8)) {
                        try connection.execute(mutation.sql.bytes(statement.range))
                    }
                }
                done.append("\(mutation)")
            } catch is PostgresError {}
        }
        let found = try Zoo.reader.read(on: connection)
        let differences = CatalogDiff().differences(expected: expected, found: found)
        let mender = Mender(expected: expected, found: found, owner: "postgres")
        if let problem = try harmlessly(mender.script(for: differences, lossy: false), found, on: connection) {
            return "\(done): \(problem)"
        }
        let script = mender.script(for: differences, lossy: true)
        do {
            try connection.transaction { for statement in script.statements { try connection.execute(statement.sql) } }
        } catch {
            return "\(done): the mend fails: \(error)\n\(script.text)"
        }
        let rest = compared(expected, try Zoo.reader.read(on: connection), mutations)
        if rest.isEmpty { return nil }
        let lines = rest.map {
            "\($0.object.kind.name) \($0.object) \($0.property ?? ""): \($0.expected ?? "-") / \($0.found ?? "-")"
        }
        return "\(done): \(lines) are left after\n\(script.text)"
    }

    /// Runs a script that is to lose nothing, and takes it back. Returns what is wrong.
    private static func harmlessly(
        _ script: MendScript, _ found: SchemaCatalog, on connection: isolated Connection
    ) throws -> String? {
        struct TakenBack: Error {}
        if script.withheld.isEmpty { return nil }
        let before = try holdings(found, on: connection)
        var problem: String?
        do {
            try connection.transaction {
                do {
                    for statement in script.statements { try connection.execute(statement.sql) }
                } catch {
                    problem = "the harmless mend fails: \(error)\n\(script.text)"
                    throw error
                }
                let after = try holdings(found, on: connection)
                if before != after { problem = "\(before) became \(after) by\n\(script.text)" }
                throw TakenBack()
            }
        } catch is TakenBack {} catch  where problem != nil {}
        return problem
    }

    /// The rows of each table that was found, and the columns that hold values of their own.
    private static func holdings(_ found: SchemaCatalog, on connection: isolated Connection) throws -> [String] {
        try found.sorted.compactMap { object in
            let identity = object.identity
            switch identity.kind {
            case .table:
                return try
                    "\(identity): \(connection.query("SELECT count(*) FROM \(identity.path)")[0].get(0, as: Int.self))"
            case .column where object["generated"] == nil && object["type"] != nil:
                let kind = found.object(at: identity.quotedParent)?.kind
                guard kind == .table else { return nil }
                let count = try connection.query("SELECT count(\(identity.quotedName)) FROM \(identity.quotedParent)")[
                    0]
                return "\(identity): \(try count.get(0, as: Int.self))"
            default: return nil
            }
        }
    }

    /// Columns of the queries that no mutation changes would be properties that no test knows.
    @Test(.database(Zoo.template)) func everyPropertyIsTried() async throws {
        let server = try await ZooServer.current
        let held = try await TestDatabase.current.with { connection in
            let terms = QueryTerms(version: connection.serverVersion / 10000, schemas: ["zoo"], owner: nil)
            return try KindQuery.all.flatMap { query -> [String] in
                let rows = try connection.query(query.sql(terms))
                let kinds = Set(try rows.map { try $0.get(2, as: String.self) })
                if kinds.isEmpty, server.lacksTrigrams, query.catalog == "pg_extension" {
                    print("skipped: the properties of extensions: the server lacks the extension pg_trgm")
                    return []
                }
                return rows.columns.dropFirst(7).map { kinds.sorted().joined(separator: "|") + ": " + $0 }
            }
        }
        let tried = Set(Mutation.all.map { "\($0.kind): \($0.property)" })
        // What comes and goes with the column, and what the definition says too.
        let excused = ["identity of", "table"]
        let untried = held.filter { line in
            let halves = line.components(separatedBy: ": ")
            return !halves[0].split(separator: "|").contains { tried.contains("\($0): \(halves[1])") }
                && !excused.contains(halves[1])
        }
        #expect(untried == [])
        let kinds = Set(Mutation.all.filter { $0.property == "present" }.map(\.kind))
        // A member comes and goes with its extension.
        #expect(ObjectKind.allCases.map(\.name).filter { !kinds.contains($0) } == ["extension member"])
    }
}

/// The page that lists what is compared says all of it.
@Suite struct SchemaPageTests {
    @Test func everyKindAndPropertyIsThere() throws {
        let page = try String(contentsOfFile: "\(ShippedFixture.repository)/docs/schema.md", encoding: .utf8)
        let rows = page.split(separator: "\n").filter { $0.hasPrefix("| ") }
        for mutation in Mutation.all where mutation.property != "present" {
            let property = mutation.property.hasPrefix("privileges of") ? "privileges" : mutation.property
            let row = rows.first { $0.hasPrefix("| \(mutation.kind) |") }
            let isAsFunction = mutation.kind == "procedure"
            #expect(isAsFunction || row?.contains(property) == true, "\(mutation)")
        }
        for kind in ObjectKind.allCases { #expect(rows.contains { $0.hasPrefix("| \(kind.name) |") }, "\(kind.name)") }
    }
}
