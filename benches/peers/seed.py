#!/usr/bin/env python3
# -*- coding: utf-8 -*-
"""

The UDP server of the article "Luat全系列模块支持免费OTA远程升级" of 2018-10-15, as it is printed there: what
benches/compare.sh measures our UDP side against. Changed are four places, marked `compare:`: the database is
an in-memory SQLite, and is filled; the address and the port are given. Needs SQLAlchemy below 1.4, whose rows
have names, as the program expects.

    seed.py PORT PROJECT FILE

device_upgrade_server.py

python3, ubuntu16.04, mysql.

简单的升级服务，无数据校验等，仅供参考。
升级的配置存在mysql，是由另外的网页程序实现的。

需要安装sqlalchemy和gevent
pip3 install sqlalchemy
pip3 install gevent

mysql的python接口
apt-get install python3-mysql.connector

"""

from gevent.server import DatagramServer # 使用gevent的udp服务器。也可以直接用socket收。
from gevent import monkey
monkey.patch_all()

import gevent
import os
import sys
import time
import datetime
import re
import traceback
import logging

logging.basicConfig(level = logging.DEBUG)
dbg = logging.debug

def print_exception_info(): # 打印trace信息
    #dbg(type(sys.exc_info()[1]))
    #dbg(sys.exc_info()[1])
    traceback.print_exc()
    #exc_type, exc_obj, exc_tb = sys.exc_info()
    #fname = os.path.split(exc_tb.tb_frame.f_code.co_filename)[1]
    #dbg(exc_type, fname, exc_tb.tb_lineno)


import sqlalchemy
from sqlalchemy import *
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

# compare: in place of mysql+mysqlconnector, with its pool of 512 connections
import sqlite3
import sqlalchemy.pool

def connect():
    connection = sqlite3.connect(":memory:", check_same_thread = False)
    connection.execute("attach ':memory:' as device_framework_upgrade")
    return connection

dbengine = create_engine("sqlite://", creator = connect, poolclass = sqlalchemy.pool.StaticPool)
Session = sessionmaker(bind = dbengine)

'''

device's data look like "862991443753386,A9335_V1723_B3633_WD1,1.1.8" and "Get6,12"

数据格式

1.recv [imei,project_name,version]
2.send [LUAUPDATE,upgrade_id,package_count,last_package_size]

3.recv [Getn,upgrade_id]
4.send [data]

...

'''

PACKAGE_SIZE = 1022

start_cmd_pattern = re.compile("^(\d{15}),(\w+),(\d+\.\d+\.\d+)$")
get_cmd_pattern = re.compile("^Get(\d+),(\d+)$")

class SingleUpgradeServer(DatagramServer):
    def __init__(self, *args, **kwargs):
        DatagramServer.__init__(self, *args, **kwargs)
        
    def handle(self, data_org, address): # 接收数据
        try:
            dbg('=================================================')
            dbg(('=== %s %s: got data_org') % (time.ctime(), address[0]))
            dbg('=================================================')
            
            # 连接数据库
            dbsession = Session()
            
            data = data_org.decode('ascii') # ascii解码
            dbg(data)
            
            function = None
            reply = bytearray()

            # 匹配命令
            match = start_cmd_pattern.match(data)
            if match:
                function = 0
            else:
                match = get_cmd_pattern.match(data)
                if match:
                    function = 1

            dbg('function = {}'.format(function))
            
            if function == 0: # match start_cmd_pattern
                imei, project_name, version = match.groups()
                
                # 在数据库中根据项目名查找固件
                upgrade = dbsession.execute(text("select * from device_framework_upgrade.single_upgrade where project_name = :project_name and status = 1"), {"project_name":project_name}).fetchone()
                
                if upgrade is None:
                    reply = "no upgrade".encode('ascii')
                    dbg("no upgrade")

                # 检查imei是否在升级范围内
                in_range = False
                imei_ranges = dbsession.execute(text("select * from device_framework_upgrade.single_upgrade_imei_range where upgrade_id = :upgrade_id"), {"upgrade_id":upgrade.id}).fetchall()

                for imei_range in imei_ranges:
                    if imei_range.starting_imei <= imei and imei <= imei_range.ending_imei:
                        in_range = True
                        break

                if not in_range:
                    reply = "imei range error".encode('ascii')
                    dbg("range error")
                
                # 检查设备版本号是否最新
                v1, v2, v3 = upgrade["version"].split('.')
                server_version = (int(v1) << 16) + (int(v2) << 8) + int(v3)
                
                v1, v2, v3 = version.split('.')
                device_version = (int(v1) << 16) + (int(v2) << 8) + int(v3)
                
                if device_version >= server_version:
                    reply = "version error".encode('ascii')
                    dbg("version error")
                else:
                    # 读取文件信息
                    file_path = upgrade['file_path']
                    dbg(file_path)
                    file_size = os.path.getsize(file_path)
                    
                    last_package_size = file_size % PACKAGE_SIZE
                    package_count = int(file_size / PACKAGE_SIZE)
                    
                    if last_package_size != 0:
                        package_count += 1
                        
                    dbg((file_size, package_count, last_package_size))
                        
                    reply = ("LUAUPDATE,%d,%d,%d" % (upgrade["id"], package_count, last_package_size)).encode('ascii')
            elif function == 1: # match get_cmd_pattern
                index, upgrade_id = match.groups()
                dbg("get")
                
                # 查找文件
                upgrade = dbsession.execute(text("select * from device_framework_upgrade.single_upgrade where id = :id and status = 1"), {"id":int(upgrade_id)}).fetchone()
                
                file_path = upgrade['file_path']
                dbg("file is %s" % file_path)
                
                # 读取文件数据
                fd = open(file_path, 'rb')
                fd.seek((int(index) - 1) * PACKAGE_SIZE)
                reply = bytearray([int(int(index) / 256), int(index) % 256]) + fd.read(PACKAGE_SIZE)
            else:
                reply = "unknown function".encode('ascii')
        except:
            dbg("error")
            print_exception_info()
            reply = "error all".encode('ascii')
        finally:
            # 回复数据给设备
            self.socket.sendto(reply, address)
            if dbsession:
                dbsession.close()

# compare: one release for every IMEI
def fill(project_name, file_path):
    with dbengine.connect() as connection:
        connection.execute("create table device_framework_upgrade.single_upgrade "
                           "(id integer primary key, project_name text, version text, file_path text, status integer)")
        connection.execute("create table device_framework_upgrade.single_upgrade_imei_range "
                           "(upgrade_id integer, starting_imei text, ending_imei text)")
        connection.execute("insert into device_framework_upgrade.single_upgrade values (1, ?, '1.0.1', ?, 1)",
                           project_name, file_path)
        connection.execute("insert into device_framework_upgrade.single_upgrade_imei_range "
                           "values (1, '000000000000000', '999999999999999')")

if __name__ == '__main__':
    # compare: the port, and the loopback address alone, in place of ('', 2234)
    port, project_name, file_path = sys.argv[1:]
    fill(project_name, file_path)
    dbg('device_upgrade_server.py receiving datagrams on %s:%d' % ('127.0.0.1', int(port)))
    try:
        # 启动udp服务器
        SingleUpgradeServer('%s:%d' % ('127.0.0.1', int(port))).serve_forever()
    except:
        print_exception_info()
