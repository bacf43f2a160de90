import Postgres
import TestSupport

/// What the server of the tests lacks of the objects in the zoos.
struct ZooServer: Sendable {
    let version: Int
    let lacksICU: Bool
    let lacksTrigrams: Bool
    let lacksCitext: Bool
    let lacksFileWrapper: Bool

    static var current: ZooServer {
        get async throws {
            let part = "objects of the zoos"
            let version = try await Connection.opened(await TestCluster.shared.settings(database: "postgres")) {
                await $0.serverVersion / 10000
            }
            return ZooServer(
                version: version,
                lacksICU: try await !ServerFeature.icu.isThere(for: part),
                lacksTrigrams: try await !ServerFeature.extension("pg_trgm").isThere(for: part),
                lacksCitext: try await !ServerFeature.extension("citext").isThere(for: part),
                lacksFileWrapper: try await !ServerFeature.extension("file_fdw").isThere(for: part))
        }
    }

    /// Returns SQL in which similar objects stand for those that the server lacks.
    func adapted(_ sql: String) -> String {
        var sql = sql
        if lacksICU { sql = sql.replacing("(provider = icu, locale = 'de-DE')", with: "(locale = 'POSIX')") }
        if lacksTrigrams { sql = sql.replacing(/CREATE EXTENSION pg_trgm WITH SCHEMA zoo;/, with: "") }
        if lacksFileWrapper {
            sql = sql.replacing("CREATE EXTENSION file_fdw", with: "CREATE FOREIGN DATA WRAPPER file_fdw")
        }
        return sql
    }

    func adapted(_ statements: [String]) -> [String] {
        statements.filter { !lacksTrigrams || !$0.hasPrefix("CREATE EXTENSION pg_trgm") }.map { adapted($0) }
    }

    /// The objects that only newer servers can have, and that this one can.
    var newer: [NewerZoo.Part] { NewerZoo.parts.filter { $0.since <= version } }

    /// Returns what the server lacks for a mutation; nil if it can make it.
    private func lacking(for mutation: Mutation) -> String? {
        let sql = mutation.sql
        let isOfWrapper = sql.contains(/file_fdw_(?:handler|validator)/) || mutation.object.hasPrefix("file_fdw(")
        if lacksICU, sql.contains("provider = icu") { return "ICU" }
        if lacksTrigrams, sql.contains("EXTENSION pg_trgm") || sql.contains("zoo.similarity") {
            return "the extension pg_trgm"
        }
        if lacksCitext, sql.contains("EXTENSION citext") { return "the extension citext" }
        return lacksFileWrapper && isOfWrapper ? "the extension file_fdw" : nil
    }

    /// Returns the mutations that the server can make. Reports the others.
    func possible(_ mutations: [Mutation]) -> [Mutation] {
        let tooNew = Set(NewerZoo.parts.filter { $0.since > version }.flatMap(\.mutations).map(\.sql))
        if mutations.contains(where: { tooNew.contains($0.sql) }) {
            print("skipped: the mutations of newer servers: the server is PostgreSQL \(version)")
        }
        return mutations.filter { !tooNew.contains($0.sql) }.compactMap { mutation in
            if let lacking = lacking(for: mutation) {
                print("skipped: the mutation \(mutation): the server lacks \(lacking)")
                return nil
            }
            let also = mutation.also.filter { !lacksTrigrams || $0 != "extension pg_trgm: present" }
            return Mutation(mutation.kind, mutation.property, mutation.object, mutation.sql, also: also)
        }
    }
}
