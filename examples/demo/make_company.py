"""Writes company.ldif: the people, departments and groups of the demo company, the same at every run.

`python examples/demo/make_company.py` from the repository. Everybody has the demo password, by one shared
argon2id hash (19 MiB, t=2, p=1): fine for a demo, never for people.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid5

from argon2.low_level import Type, hash_secret

BASE = "dc=xinghe,dc=example"
PASSWORD = b"Tessera-demo-2026"
SALT = b"xinghe demo salt"
NAMESPACE = UUID("5b0f7a52-6c1e-4f0e-9d53-0e3b6f1c2a77")
OUT = Path(__file__).with_name("company.ldif")

SURNAMES = (
    "王wang 李li 张zhang 刘liu 陈chen 杨yang 黄huang 赵zhao 吴wu 周zhou 徐xu 孙sun 马ma 朱zhu 胡hu "
    "郭guo 何he 林lin 高gao 罗luo 郑zheng 梁liang 谢xie 宋song 唐tang 许xu 韩han 冯feng 邓deng 曹cao "
    "彭peng 曾zeng 肖xiao 田tian 董dong 潘pan 袁yuan 蔡cai 蒋jiang 余yu 于yu 杜du 叶ye 程cheng 魏wei "
    "苏su 吕lv 丁ding 任ren 卢lu 姚yao 沈shen 钟zhong 姜jiang 崔cui 谭tan 陆lu 范fan 汪wang 廖liao "
    "欧阳ouyang 上官shangguan 司马sima 诸葛zhuge"
)
GIVEN = (
    "伟wei 芳fang 娜na 敏min 静jing 丽li 强qiang 磊lei 军jun 洋yang 勇yong 艳yan 杰jie 娟juan 涛tao "
    "明ming 超chao 霞xia 平ping 刚gang 桂英guiying 志强zhiqiang 建国jianguo 建华jianhua 秀兰xiulan "
    "海燕haiyan 晓东xiaodong 晓梅xiaomei 文博wenbo 子轩zixuan 梓涵zihan 浩然haoran 宇航yuhang 欣怡xinyi "
    "雨桐yutong 思远siyuan 嘉琪jiaqi 俊杰junjie 志远zhiyuan 立新lixin 国栋guodong 春梅chunmei "
    "雪松xuesong 海波haibo 振华zhenhua 永康yongkang 佳宁jianing 诗涵shihan 天佑tianyou 一鸣yiming "
    "书瑶shuyao 若曦ruoxi 景行jingxing 云飞yunfei 玉兰yulan 婷婷tingting 鹏飞pengfei 红梅hongmei "
    "国强guoqiang 少华shaohua"
)


@dataclass(frozen=True)
class Unit:
    """A department or a team of one: head's title, the staff's titles, and how many people."""

    code: str
    name: str
    company: str
    people: int
    head: str
    titles: tuple[str, ...]
    parent: str = ""

    @property
    def dn(self) -> str:
        above = f"ou={self.parent}," if self.parent else ""
        return f"ou={self.code},{above}ou=departments,{BASE}"

    @property
    def department(self) -> str:
        return self.parent or self.code


UNITS = (
    Unit("GM", "总经办", "XH01", 9, "总经理", ("总经理助理", "行政专员", "内审专员", "内审专员", "法务专员")),
    Unit("RD", "研发部", "XH01", 22, "研发总监", ("研发工程师", "高级研发工程师", "产品经理", "测试工程师")),
    Unit("RD-SW", "软件组", "XH01", 26, "软件组组长", ("软件工程师", "高级软件工程师", "测试工程师"), "RD"),
    Unit("RD-HW", "硬件组", "XH01", 22, "硬件组组长", ("硬件工程师", "结构工程师", "工艺工程师"), "RD"),
    Unit("MF", "生产部", "XH01", 14, "生产总监", ("生产计划员", "仓管员", "质量工程师")),
    Unit("MF-A", "装配车间", "XH01", 42, "车间主任", ("装配工", "装配工", "班组长", "质检员"), "MF"),
    Unit(
        "MF-B",
        "机加工车间",
        "XH01",
        34,
        "车间主任",
        ("数控操作工", "数控操作工", "班组长", "设备维护员"),
        "MF",
    ),
    Unit("FI", "财务部", "XH01", 20, "财务总监", ("费用会计", "总账会计", "费用会计", "出纳", "税务会计")),
    Unit("HR", "人事部", "XH01", 14, "人事总监", ("招聘专员", "薪酬专员", "培训专员")),
    Unit("IT", "信息部", "XH01", 18, "信息总监", ("系统工程师", "主数据专员", "网络工程师", "开发工程师")),
    Unit("PU", "采购部", "XH02", 24, "采购总监", ("采购员", "采购员", "高级采购员", "供应商管理员")),
    Unit("SA", "销售部", "XH02", 11, "销售总监", ("销售助理", "商务专员")),
    Unit("SA-E", "华东大区", "XH02", 24, "大区经理", ("客户经理", "销售代表"), "SA"),
    Unit("SA-S", "华南大区", "XH02", 20, "大区经理", ("客户经理", "销售代表"), "SA"),
)

# The people that the documentation and the walk-through name: (surname, given, uid, title).
KNOWN = {
    "RD": (("李", "四", "lisi", "研发总监"), ("张", "三", "zhangsan", "研发工程师")),
    "FI": (
        ("钱", "九", "qianjiu", "财务总监"),
        ("王", "五", "wangwu", "费用会计"),
        ("赵", "六", "zhaoliu", "出纳"),
    ),
    "PU": (("周", "八", "zhouba", "采购总监"), ("孙", "七", "sunqi", "采购员")),
}


@dataclass
class Person:
    """One person."""

    surname: str
    given: str
    uid: str
    title: str
    unit: Unit
    company: str
    number: str
    mobile: str
    head: bool
    outside: bool
    manager: str = ""

    @property
    def dn(self) -> str:
        return f"uid={self.uid},ou=people,{BASE}"


@dataclass
class Company:
    """Everybody, and the state that makes names and numbers unique."""

    people: list[Person] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)
    # A fixed seed: the file is the same at every run.
    dice: random.Random = field(default_factory=lambda: random.Random("星河制造集团"))

    def hire(self, unit: Unit, index: int) -> None:
        """Add the unit's next person; the first one leads it."""
        known = KNOWN.get(unit.code, ())
        if index < len(known):
            surname, given, uid, title = known[index]
            self.uids.add(uid)
        else:
            surname, given, uid = self._name()
            title = unit.titles[index % len(unit.titles)] if index else unit.head
        company = unit.company
        # The finance department serves both companies: a quarter of it is employed by the trading company.
        if unit.code == "FI" and index % 4 == 3:
            company = "XH02"
        number = self.numbers[company] = self.numbers.get(company, 0) + 1
        outside = unit.code.startswith(("MF-", "RD-")) and index > 0 and index % 9 == 0
        self.people.append(
            Person(
                surname=surname,
                given=given,
                uid=uid,
                title=title,
                unit=unit,
                company=company,
                number=f"{company[-2:]}{number:04d}",
                mobile=f"1390000{len(self.people) + 1:04d}",
                head=index == 0,
                outside=outside,
            )
        )

    def set_managers(self) -> None:
        """People report to the head of their unit, heads to the unit above, department heads to the top."""
        heads = {one.unit.code: one for one in self.people if one.head}
        for one in self.people:
            above = heads[one.unit.parent or "GM"] if one.head else heads[one.unit.code]
            one.manager = above.dn if above is not one else ""

    def _name(self) -> tuple[str, str, str]:
        surname, pinyin = _split(self.dice.choice(SURNAMES.split()))
        given, given_pinyin = _split(self.dice.choice(GIVEN.split()))
        uid, number = pinyin + given_pinyin, 1
        while uid in self.uids:
            number += 1
            uid = f"{pinyin}{given_pinyin}{number}"
        self.uids.add(uid)
        return surname, given, uid


def _split(word: str) -> tuple[str, str]:
    """Characters and their pinyin."""
    return "".join(c for c in word if not c.isascii()), "".join(c for c in word if c.isascii())


def groups(people: list[Person]) -> dict[str, tuple[str, list[str]]]:
    """Group name → (description, member DNs); groups are members of groups."""

    def titled(*titles: str) -> list[str]:
        return [one.dn for one in people if one.title in titles]

    def group_dn(name: str) -> str:
        return f"cn={name},ou=groups,{BASE}"

    departments = [unit for unit in UNITS if not unit.parent]
    found: dict[str, tuple[str, list[str]]] = {}
    for unit in departments:
        code = unit.code.lower()
        found[f"dept-{code}"] = unit.name, [one.dn for one in people if one.unit.department == unit.code]
        leads = [one.dn for one in people if one.head and one.unit.department == unit.code]
        found[f"leads-{code}"] = f"{unit.name}负责人", leads
    found["all-employees"] = "全体员工", [group_dn(f"dept-{unit.code.lower()}") for unit in departments]
    found["dept-approvers"] = "部门审批人", [group_dn(f"leads-{unit.code.lower()}") for unit in departments]
    found["finance-reviewers"] = "费用会计", titled("费用会计")
    found["cashiers"] = "出纳", titled("出纳")
    found["buyers"] = "采购员", titled("采购员", "高级采购员")
    found["purchase-approvers"] = "采购审批人", titled("采购总监")
    found["erp-masterdata"] = "主数据管理员", titled("主数据专员")
    found["internal-audit"] = "内审", titled("内审专员")
    found["outside-staff"] = "外包人员", [one.dn for one in people if one.outside]
    inside = ["dept-rd", "dept-mf", "dept-fi", "dept-pu", "internal-audit", "erp-masterdata"]
    found["erp-users"] = "ERP 用户", [group_dn(name) for name in inside]
    return found


def entry(dn: str, note: str, *pairs: tuple[str, str]) -> list[str]:
    """One record; values outside ASCII are base64 (RFC 2849), so a comment says who it is."""
    uuid = uuid5(NAMESPACE, dn)
    return [
        "",
        f"# {note}",
        f"dn: {dn}",
        *(_line(name, value) for name, value in pairs),
        f"entryUUID: {uuid}",
    ]


def _line(name: str, value: str) -> str:
    if value.isascii():
        return f"{name}: {value}"
    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def person_entry(one: Person, password: str) -> list[str]:
    """A person's record."""
    name = one.surname + one.given
    optional = [("manager", one.manager)] if one.manager else []
    return entry(
        one.dn,
        f"{name}, {one.unit.name}, {one.title}",
        ("objectClass", "inetOrgPerson"),
        ("uid", one.uid),
        ("cn", name),
        ("sn", one.surname),
        ("givenName", one.given),
        ("displayName", name),
        ("mail", f"{one.uid}@xinghe.example"),
        ("mobile", one.mobile),
        ("preferredLanguage", "zh-CN"),
        ("o", one.company),
        ("departmentNumber", one.unit.code),
        ("employeeNumber", one.number),
        ("employeeType", "outside" if one.outside else "staff"),
        ("title", one.title),
        *optional,
        ("userPassword", "{ARGON2}" + password),
    )


def build() -> str:
    """The whole file."""
    company = Company()
    for unit in UNITS:
        for index in range(unit.people):
            company.hire(unit, index)
    company.set_managers()
    password = hash_secret(
        PASSWORD, SALT, time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, type=Type.ID
    ).decode()
    lines = ["# Made by make_company.py; do not edit.", "version: 1"]
    root = ("objectClass", "organizationalUnit")
    organisation = (("objectClass", "dcObject"), ("objectClass", "organization"), ("dc", "xinghe"))
    lines += entry(BASE, "星河制造集团", *organisation, ("o", "星河制造集团"))
    for name in ("departments", "people", "groups"):
        lines += entry(f"ou={name},{BASE}", name, root, ("ou", name))
    for unit in UNITS:
        lines += entry(unit.dn, unit.name, root, ("ou", unit.code), ("description", unit.name), ("l", unit.company))
    for one in company.people:
        lines += person_entry(one, password)
    for name, (description, members) in groups(company.people).items():
        lines += entry(
            f"cn={name},ou=groups,{BASE}",
            description,
            ("objectClass", "groupOfNames"),
            ("cn", name),
            ("description", description),
            *(("member", member) for member in members),
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    OUT.write_text(build(), encoding="utf-8")
