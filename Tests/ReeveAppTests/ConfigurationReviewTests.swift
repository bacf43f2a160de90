import Foundation
import TestSupport
import Testing

@testable import BackupsFeature
@testable import Kernel
@testable import ReeveApp

/// `reeve config check`: every mistake, each with its place.
@Suite(.timeLimit(.minutes(2)))
struct ConfigurationReviewTests {
    /// A folder with a reeve.yaml, and systems in `db`.
    private final class Place {
        let folder = "/tmp/reeve-review-\(UUID().uuidString.prefix(8))"
        var file: String { "\(folder)/reeve.yaml" }

        init(_ yaml: String, systems: [String: String] = [:]) throws {
            for (name, text) in systems {
                let inner = "\(folder)/db/\(name)"
                try FileManager.default.createDirectory(atPath: inner, withIntermediateDirectories: true)
                try text.write(toFile: "\(inner)/system.yaml", atomically: true, encoding: .utf8)
            }
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try yaml.write(toFile: file, atomically: true, encoding: .utf8)
        }

        deinit { try? FileManager.default.removeItem(atPath: folder) }

        func mistakes(_ environment: [String: String] = [:]) -> [String] {
            ConfigurationReview(path: file, environment: environment, features: .reeve).mistakes.map { mistake in
                mistake.description.replacing("\(folder)/", with: "") + (mistake.hint.map { " (\($0))" } ?? "")
            }
        }
    }

    @Test func `all mistakes are listed in the order of their lines`() throws {
        let place = try Place(
            """
            database:
              url: postgresql://h/d
              systems: [postrs, ./db/shop, ./db/none]
              options: [psoters/x]
            drain: soon
            htp: {}
            pool:
              size: 0
              wiat: 3s
            backup:
              repository: [gs://b/p, ./reeve.yaml]
              recipients: [age1abc, AGE-SECRET-KEY-1X]
            http:
              listen: 0.0.0.0:7433
            tasks:
              analyse: {enabled: true}
              migrate: {schedule: '0 0 * * MONN'}
              anchor: {every: 5min, schedule: '@daily', zone: Europe/Berlim}
              empty:
            """, systems: ["shop": "name: Shop\nrequiers: [platform]\nmask: {t: {a: hsh, b: nul}}\n"])
        let mistakes = place.mistakes(["REEVE_HTTP_LISTN": "off", "REEVE_LOG_LEVEL": "loud"])
        let expected = [
            "db/shop/system.yaml:1: 'Shop' is not a valid name",
            "db/shop/system.yaml:2: unknown key 'requiers' (did you mean 'requires')",
            "db/shop/system.yaml:3: 'hsh' is not a mask (did you mean 'hash')",
            "db/shop/system.yaml:3: 'nul' is not a mask (did you mean 'null')",
            "reeve.yaml:3: the system 'postrs' does not exist (did you mean 'posters')",
            "reeve.yaml:3: the folder db/none contains no system.yaml",
            "reeve.yaml:5: 'drain': ", "reeve.yaml:6: unknown key 'htp' (did you mean 'http')",
            "reeve.yaml:8: 'pool.size': '0' is not a whole number from 1 to 1000",
            "reeve.yaml:9: unknown key 'pool.wiat' (did you mean 'wait')",
            "reeve.yaml:11: 'backup.repository': ",
            "reeve.yaml:12: 'backup.recipients': 'age1abc' is not an age recipient: its checksum is wrong",
            "reeve.yaml:12: 'backup.recipients': this is an identity",
            "reeve.yaml:14: 'http.listen': other machines can reach 0.0.0.0:7433",
            "reeve.yaml:16: the task 'analyse' does not exist (did you mean 'analyze')",
            "reeve.yaml:17: 'tasks.migrate.schedule': day of week 'MONN': 'MONN' is not a number or a name (did you mean 'mon')",
            "reeve.yaml:18: 'tasks.anchor.zone': 'Europe/Berlim' is not an IANA time zone (did you mean 'Europe/Berlin')",
            "reeve.yaml:18: 'tasks.anchor' has both", "reeve.yaml:19: the task 'empty' does not exist",
            "environment REEVE_HTTP_LISTN: no setting has this name (did you mean REEVE_HTTP_LISTEN)",
            "environment REEVE_LOG_LEVEL: 'log.level': 'loud'",
        ]
        for one in expected {
            #expect(mistakes.contains { $0.replacing("./", with: "").hasPrefix(one) }, "\(one) is not in \(mistakes)")
        }
        #expect(mistakes.count == expected.count, "\(mistakes)")
        let lines = mistakes.compactMap { $0.wholeMatch(of: /reeve\.yaml:(\d+):.*/).flatMap { Int($0.1) } }
        #expect(lines == lines.sorted() && lines.count == 15, "\(mistakes)")
        #expect(!mistakes.contains { $0.contains("SECRET") })
    }

    @Test func `systems, options and schemas are looked up`() throws {
        let place = try Place(
            """
            databases:
              a: {url: 'postgresql://h/a', systems: [./db/one, ./db/two], options: [oen/x, one/x, nothing]}
              b: {systems: [./db/bad]}
              c:
            schemas: {on: public, one: public}
            """,
            systems: [
                "one": "name: one\n", "two": "name: one\n", "bad": "name: bad\ndescription: x\nrequires: [platfrom]\n",
            ])
        let mistakes = place.mistakes()
        #expect(mistakes.contains { $0.contains("reeve.yaml:2: two folders have the system 'one'") }, "\(mistakes)")
        #expect(mistakes.contains("reeve.yaml:3: 'databases.b': the key 'url' is missing"), "\(mistakes)")
        #expect(mistakes.contains("reeve.yaml:4: 'databases.c': the key 'url' is missing"), "\(mistakes)")
        let second = try Place(
            """
            databases:
              a: {url: 'postgresql://h/a', systems: [./db/one], options: [oen/x, one/x, nothing]}
              b: {url: 'postgresql://h/b', systems: [./db/bad]}
            """, systems: ["one": "name: one\n", "bad": "name: bad\ndescription: x\nrequires: [platfrom]\n"])
        #expect(
            second.mistakes()
                == [
                    "db/bad/system.yaml:3: the system 'platfrom' does not exist (did you mean 'platform')",
                    "reeve.yaml:2: 'oen/x': the system 'oen' is not one of the database's systems (did you mean 'one')",
                    "reeve.yaml:2: 'nothing' is not of the form system/option",
                ], "\(second.mistakes())")
        let third = try Place(
            "database: {url: 'postgresql://h/a', systems: ./db/one}\nschemas: {on: public, one: public}\n",
            systems: ["one": "name: one\n"])
        #expect(third.mistakes() == ["reeve.yaml:2: 'schemas.on': no database has this system (did you mean 'one')"])
    }

    @Test func `a system's name is the name of one folder, and an option the option of a system`() async throws {
        let place = try Place("", systems: ["one": "name: one\n", "two": "name: one\n"])
        let environment = ["REEVE_CONFIG": place.file, "DATABASE_URL": "postgresql://127.0.0.1:1/none"]
        let twice = try await ReeveBinary.run(
            ["migrate", "status", "--system", "\(place.folder)/db/one", "--system", "\(place.folder)/db/two"],
            environment: environment)
        #expect(twice.ending == .exited(2) && twice.errorOutput.contains("two folders have the system 'one'"))
        let link = "\(place.folder)/link"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "\(place.folder)/db/one")
        let same = try await ReeveBinary.run(
            ["migrate", "status", "--system", "\(place.folder)/db/one", "--system", link], environment: environment)
        #expect(!same.errorOutput.contains("two folders"), "\(same.errorOutput)")
        let option = try await ReeveBinary.run(
            ["migrate", "plan", "--system", "\(place.folder)/db/one", "--with", "oen/x"], environment: environment)
        #expect(option.ending == .exited(2) && option.errorOutput.contains("did you mean 'one'"), "\(option)")
    }

    @Test func `the command lists all of them, and the object too`() async throws {
        let place = try Place("drain: soon\npool:\n  size: 0\n")
        let text = try await ReeveBinary.run(["config", "check", "--config", place.file])
        #expect(text.ending == .exited(2) && text.output.isEmpty)
        #expect(text.errorOutput.contains("reeve.yaml:1:") && text.errorOutput.contains("reeve.yaml:3:"))
        #expect(text.errorOutput.hasSuffix("2 mistakes\n"), "\(text.errorOutput)")
        let (object, status) = try await ReeveBinary.json(["config", "check", "--config", place.file])
        let error = try #require(object["error"] as? [String: Any])
        #expect(status == .exited(2) && error["code"] as? String == "configuration")
        #expect((error["mistakes"] as? [[String: Any]])?.count == 2 && object["valid"] as? Bool == false)
    }

    @Test func `a backup that cannot be encrypted is a mistake where backups are made`() throws {
        let yaml = "database: postgresql://h/d\nbackup:\n  repository: /srv\n"
        #expect(try Place(yaml).mistakes().contains { $0.contains("'backup.recipients' is missing") })
        for more in ["  encryption: none\n", "  identity: /etc/x\n"] {
            #expect(try Place(yaml + more).mistakes() == [])
        }
        let valid = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
        #expect(try Place(yaml + "  recipients: \(valid)\n").mistakes() == [])
        for wrong in [valid.replacing("ql3z", with: "ql3y"), String(valid.dropLast()), valid.uppercased(), "age1"] {
            #expect(!Bech32.isValid(wrong))
        }
    }
}
