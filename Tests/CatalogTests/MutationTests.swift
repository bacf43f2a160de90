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
        ]
    }

    @Test(.database(Zoo.template), arguments: Group.all)
    func eachChangeIsFoundAndMended(_ group: Group) async throws {
        let (found, falseAlarms) = try await TestDatabase.current.connection { connection in
            var found = 0
            var falseAlarms = 0
            var expected = try await connection.with { try Zoo.reader.read(on: $0) }
            for mutation in group.mutations {
                let trial = try await connection.with { [expected] in
                    Trial(mutation: mutation, expected: expected).run(on: $0)
                }
                for problem in trial.problems { Issue.record("\(mutation): \(problem)") }
                found += trial.isFound ? 1 : 0
                falseAlarms += trial.falseAlarms
                // What could not be mended is not to trouble those that follow.
                if !trial.problems.isEmpty { expected = try await connection.with { try Zoo.reader.read(on: $0) } }
            }
            return (found, falseAlarms)
        }
        let properties = Set(group.mutations.map { "\($0.kind) \($0.property)" }).count
        print(
            "mutations of \(group.testDescription): \(properties) properties, \(group.mutations.count) changes tried, "
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
            let differences = CatalogDiff().differences(expected: expected, found: found)
            let shown = Set(differences.map { "\($0.object.kind.name) \($0.object): \($0.property ?? "present")" })
            let wanted = Set([mutation.description] + mutation.also)
            isFound = shown.contains(mutation.description)
            falseAlarms = shown.subtracting(wanted).count
            if shown != wanted { problems.append("found \(shown.sorted()), not \(wanted.sorted())") }
            let script = Mender(expected: expected, found: found, owner: "postgres").script(for: differences)
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
            let rest = CatalogDiff().differences(expected: expected, found: mended)
            if !rest.isEmpty {
                let lines = rest.map {
                    "\($0.object.kind.name) \($0.object) \($0.property ?? ""): \($0.expected ?? "-") / \($0.found ?? "-")"
                }
                problems.append("\(lines) are left after\n\(script.text)")
            }
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
        try await TestDatabase.current.connection { connection in
            var expected = try await connection.with { try Zoo.reader.read(on: $0) }
            for round in 0..<rounds {
                var generator = SeededGenerator(UInt64(part * 1_000_000 + round + 1))
                let chosen = (0..<6).compactMap { _ in Mutation.all.randomElement(using: &generator) }
                let problem = try await connection.with { [expected] in
                    try Self.mendTogether(chosen, expected: expected, on: $0)
                }
                if let problem {
                    Issue.record("part \(part) round \(round): \(problem)")
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
        let script = Mender(expected: expected, found: found, owner: "postgres").script(for: differences)
        do {
            try connection.transaction { for statement in script.statements { try connection.execute(statement.sql) } }
        } catch {
            return "\(done): the mend fails: \(error)\n\(script.text)"
        }
        let rest = CatalogDiff().differences(expected: expected, found: try Zoo.reader.read(on: connection))
        if rest.isEmpty { return nil }
        let lines = rest.map {
            "\($0.object.kind.name) \($0.object) \($0.property ?? ""): \($0.expected ?? "-") / \($0.found ?? "-")"
        }
        return "\(done): \(lines) are left after\n\(script.text)"
    }

    /// Columns of the queries that no mutation changes would be properties that no test knows.
    @Test(.database(Zoo.template)) func everyPropertyIsTried() async throws {
        let held = try await TestDatabase.current.with { connection in
            let terms = QueryTerms(version: connection.serverVersion / 10000, schemas: ["zoo"], owner: nil)
            return try KindQuery.all.flatMap { query -> [String] in
                let rows = try connection.query(query.sql(terms))
                let kinds = Set(try rows.map { try $0.get(2, as: String.self) })
                return rows.columns.dropFirst(7).map { kinds.sorted().joined(separator: "|") + ": " + $0 }
            }
        }
        let tried = Set(Mutation.all.map { "\($0.kind): \($0.property)" })
        // What PostgreSQL 15 does not have yet, what comes and goes with the column, and what the definition says too.
        let excused = ["generated kind", "not enforced", "identity of", "table"]
        let untried = held.filter { line in
            let halves = line.components(separatedBy: ": ")
            return !halves[0].split(separator: "|").contains { tried.contains("\($0): \(halves[1])") }
                && !excused.contains(halves[1])
        }
        #expect(untried == [])
        let kinds = Set(Mutation.all.filter { $0.property == "present" }.map(\.kind))
        #expect(ObjectKind.allCases.map(\.name).filter { !kinds.contains($0) } == [])
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
